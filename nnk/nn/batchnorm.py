"""Batch normalisation."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import numpy as np

from nnk import backend
from nnk.dials import only_eager
from nnk.nn.normbase import RunningNorm

__all__ = ["BatchNorm1d", "BatchNorm2d"]


class _BatchNorm(RunningNorm):
    """Batch normalisation over all axes but the channels, axis 1; `BatchNorm2d` says what it computes."""

    fuses_as: ClassVar = "norm"
    _shapes: ClassVar[dict[int, str]]  # what inputs are taken, by their number of axes

    def _check(self, x: Any) -> None:
        if x.ndim not in self._shapes or x.shape[1] != self.num_features:
            raise ValueError(
                f"{type(self).__name__}: the input has shape {x.shape}, expected "
                f"{' or '.join(self._shapes.values()).replace('C', str(self.num_features))}: num_features is "
                f"{self.num_features}"
            )
        if self.eps < 0:
            raise ValueError(f"{type(self).__name__}: eps is {self.eps}, expected at least 0")

    def _check_batch(self, x: Any) -> None:
        if x.size == self.num_features:
            raise ValueError(
                f"{type(self).__name__}: the input has shape {x.shape}, one value per channel, expected more than one "
                "in training"
            )
        if self.eps <= 0:
            raise ValueError(f"{type(self).__name__}: eps is {self.eps}, expected a positive number in training")

    @property
    def takes_images(self) -> bool:
        """Whether inputs are (N, C, H, W)."""
        return 4 in self._shapes

    @property
    def by_batch(self) -> bool:
        """Whether forward normalises by the statistics of its batch, not by the running ones."""
        return self.training or self.running_mean is None

    def folded_into(self, bias: Any) -> tuple[Any, Any]:
        """Return (scale, shift) by channel: with the running statistics, normalising x + bias gives x*scale + shift.

        A `bias` of None is zero.
        """
        scale = 1 / np.sqrt(self.running_var + self.eps)
        if self.weight is not None:
            scale = scale * self.weight.data
        shift = (-self.running_mean if bias is None else bias - self.running_mean) * scale
        return scale, shift if self.bias is None else shift + self.bias.data

    def forward(self, x: Any, tail: Any = None, folded: bool = False, statistics: list | None = None) -> Any:
        """Return `x` normalised. `tail`, `folded` and `statistics` are explained in `nnk.nn.fusion`."""
        x = backend.as_array(x)
        self._check(x)
        if folded:
            return x
        vectors = self._arrays()
        kernels = backend.of(x, *vectors, self.running_mean, self.running_var)
        by_batch = self.by_batch
        if by_batch:
            self._check_batch(x)
        # What the fused kernels take besides: the residual, or None.
        extra = () if tail is None else (self._residual(tail, x),)
        shape, x = x.shape, _as_images(x)
        if by_batch:
            y, *backwards = self._by_batch(kernels, x, vectors, extra, statistics.pop() if statistics else None)
        else:
            y, *backwards = self._by_running(kernels, x, vectors, extra)
        self.save(x, *backwards)
        return y.reshape(shape) if len(shape) == 3 else y

    def _by_batch(
        self, kernels: Any, x: Any, vectors: list, extra: tuple, statistics: Any = None
    ) -> tuple[Any, Any, Any]:
        """Return y and two functions of (dy, x, weight): the backward, and the fused one if the forward was fused."""
        moving = self.training and self.running_mean is not None
        running = (self.running_mean, self.running_var) if moving else (None, None)
        momentum = self._count_batch() if moving else 0.0
        options = {"momentum": momentum, "eps": self.eps, "statistics": statistics}
        if not extra:
            y, mean, invstd = kernels.batch_norm_train(x, *vectors, *running, **options)
            fused = None
        else:
            y, mean, invstd, mask = kernels.batch_norm_relu_train(x, *vectors, *running, *extra, **options)
            saved = {"mean": mean, "invstd": invstd, "mask": mask, "residual": extra[0] is not None}
            fused = partial(kernels.batch_norm_relu_train_backward, **saved)
        return y, partial(kernels.batch_norm_train_backward, mean=mean, invstd=invstd), fused

    def _by_running(self, kernels: Any, x: Any, vectors: list, extra: tuple) -> tuple[Any, Any, Any]:
        """Return the same as `_by_batch`, with the running statistics."""
        running = self.running_mean, self.running_var
        forward = kernels.batch_norm_relu_eval if extra else kernels.batch_norm_eval
        y = forward(x, *vectors, *running, *extra, eps=self.eps)
        # Copies: a forward in training may move the running statistics before this one's backward.
        mean, var = (statistic.copy() for statistic in running)
        backward = partial(kernels.batch_norm_eval_backward, running_mean=mean, running_var=var, eps=self.eps)

        def fused(dy: Any, x: Any, weight: Any) -> tuple[Any, ...]:
            dy = kernels.relu_backward(dy, y)
            return (*backward(dy, x, weight), dy)

        return y, backward, fused if extra else None

    def _residual(self, tail: Any, x: Any) -> Any:
        residual, _ = tail(x.shape)
        if residual is not None:
            backend.of(x, residual)
            return _as_images(residual)

    def _count_batch(self) -> float:
        """Count one more batch; return the weight of its statistics."""
        np.add(self.num_batches_tracked, 1, out=self.num_batches_tracked)
        if self.momentum is not None:
            return self.momentum
        only_eager(f"{type(self).__name__} with momentum=None")
        return 1 / int(self.num_batches_tracked)

    def backward(self, dy: Any, input_grad: bool = True, tail: Any = None) -> Any:
        """Add the gradients of weight and bias; return that to the input."""
        x, backward, fused = self.saved()
        weight = None if self.weight is None else self.weight.data
        shape, dy = dy.shape, _as_images(dy)
        if tail is None:
            dx, dweight, dbias = backward(dy, x, weight)
        else:
            dx, dweight, dbias, dresidual = fused(dy, x, weight)
            tail(dresidual.reshape(shape) if len(shape) == 3 and dresidual is not None else dresidual)
        self._accumulate(dweight, dbias)
        if input_grad:
            return dx.reshape(shape) if len(shape) == 3 else dx


def _as_images(x: Any) -> Any:
    """Return (N, C, L) as the images (N, C, L, 1) that kernels take, and images in the kernels' memory order."""
    if x.ndim == 2:
        return x
    return backend.channels_last(x if x.ndim == 4 else x[..., None])


class BatchNorm1d(_BatchNorm):
    """Batch normalisation of (N, C) or (N, C, L): each channel by its mean and variance over all other axes.

        y = weight * (x - mean) / sqrt(var + eps) + bias

    Running statistics, modes, errors and source are those of `BatchNorm2d`.
    """

    _shapes: ClassVar = {2: "(N, C)", 3: "(N, C, L)"}


class BatchNorm2d(_BatchNorm):
    """Batch normalisation of images (N, C, H, W): each channel by its mean and variance over N, H and W.

        y = weight * (x - mean) / sqrt(var + eps) + bias

    In training, mean and (biased) variance are the batch's, and the gradient goes through them; the running statistics
    move by ``running += momentum * (new - running)``, with the unbiased variance, or are plain averages over all
    batches with ``momentum=None``. In eval mode the running statistics stand for the batch's, as constants. With
    ``track_running_stats=False`` there are none, and both modes use the batch's.

    `weight` starts at 1 and `bias` at 0; ``affine=False`` has neither, ``bias=False`` only the weight. Buffers are
    `running_mean`, `running_var` and the 0-d int64 `num_batches_tracked`. An empty batch leaves the statistics alone.

    Raises ValueError on an input with another number of axes or channels, and in training on a single value per channel
    or an `eps` that is not positive, in eval mode on one below 0; TypeError on another dtype than the weight's.
    Source: Ioffe and Szegedy (2015), arXiv:1502.03167.
    """

    _shapes: ClassVar = {4: "(N, C, H, W)"}
