"""Batch normalisation."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import numpy as np

from nnk import backend
from nnk.nn import arguments, init
from nnk.nn.module import Module
from nnk.nn.parameter import Parameter

__all__ = ["BatchNorm1d", "BatchNorm2d"]


class _BatchNorm(Module):
    """Batch normalisation over all axes but the channels, axis 1; `BatchNorm2d` says what it computes."""

    fuses_as: ClassVar = "norm"
    _shapes: ClassVar[dict[int, str]]  # what inputs are taken, by their number of axes

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-05,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: str | None = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ):
        self.num_features = arguments.integer(num_features, "num_features", 1)
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats

        def vector(value: float) -> Any:
            return init.full((num_features,), value, device, dtype)

        self.weight = Parameter(vector(1.0)) if affine else None
        self.bias = Parameter(vector(0.0)) if affine and bias else None
        self.register_buffer("running_mean", vector(0.0) if track_running_stats else None)
        self.register_buffer("running_var", vector(1.0) if track_running_stats else None)
        self.register_buffer("num_batches_tracked", np.zeros((), np.int64) if track_running_stats else None)

    def reset_running_stats(self) -> None:
        """Set the running mean to 0, the running variance to 1 and the count of batches to 0."""
        if self.running_mean is not None:
            self.running_mean[...] = 0
            self.running_var[...] = 1
            self.num_batches_tracked[...] = 0

    def reset_parameters(self) -> None:
        """Reset the running statistics, and set the weight to 1 and the bias to 0."""
        self.reset_running_stats()
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def _check(self, x: Any) -> None:
        if x.ndim not in self._shapes or x.shape[1] != self.num_features:
            raise ValueError(
                f"{type(self).__name__}: the input has shape {x.shape}, expected "
                f"{' or '.join(self._shapes.values()).replace('C', str(self.num_features))}: num_features is "
                f"{self.num_features}"
            )

    def _check_batch(self, x: Any) -> None:
        if x.size == self.num_features:
            raise ValueError(
                f"{type(self).__name__}: the input has shape {x.shape}, one value per channel, expected more than one "
                "in training"
            )
        if self.eps <= 0:
            raise ValueError(f"{type(self).__name__}: eps is {self.eps}, expected a positive number in training")

    def forward(self, x: Any, tail: Any = None) -> Any:
        """Return `x` normalised. `tail` is explained in `nnk.nn.fusion`."""
        x = backend.as_array(x)
        self._check(x)
        vectors = [None if p is None else p.data for p in (self.weight, self.bias)]
        kernels = backend.of(x, *vectors, self.running_mean, self.running_var)
        by_batch = self.training or self.running_mean is None
        if by_batch:
            self._check_batch(x)
        # What the fused kernels take besides: the residual, or None.
        extra = () if tail is None else (self._residual(tail, x),)
        shape, x = x.shape, _as_images(x)
        normalise = self._by_batch if by_batch else self._by_running
        y, *backwards = normalise(kernels, x, vectors, extra)
        self.save(x, *backwards)
        return y.reshape(shape) if len(shape) == 3 else y

    def _by_batch(self, kernels: Any, x: Any, vectors: list, extra: tuple) -> tuple[Any, Any, Any]:
        """Return y and two functions of (dy, x, weight): the backward, and the fused one if the forward was fused."""
        moving = self.training and self.running_mean is not None
        running = (self.running_mean, self.running_var) if moving else (None, None)
        options = {"momentum": self._count_batch() if moving else 0.0, "eps": self.eps}
        if not extra:
            y, mean, invstd = kernels.batch_norm_train(x, *vectors, *running, **options)
            fused = None
        else:
            y, mean, invstd, affine = kernels.batch_norm_relu_train(x, *vectors, *running, *extra, **options)
            output = None if extra[0] is None else y
            fused = partial(kernels.batch_norm_relu_train_backward, mean=mean, invstd=invstd, affine=affine, y=output)
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
        residual = tail(x)
        if residual is not None:
            backend.of(x, residual)
            return _as_images(residual)

    def _count_batch(self) -> float:
        """Count one more batch; return the weight of its statistics."""
        np.add(self.num_batches_tracked, 1, out=self.num_batches_tracked)
        return 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum

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
        if self.weight is not None and self.weight.requires_grad:
            self.weight.accumulate(dweight)
        if self.bias is not None and self.bias.requires_grad:
            self.bias.accumulate(dbias)
        if input_grad:
            return dx.reshape(shape) if len(shape) == 3 else dx

    def extra_repr(self) -> str:
        """Return the arguments that `repr` shows."""
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )


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
    or an `eps` that is not positive; TypeError on another dtype than the weight's.
    Source: Ioffe and Szegedy (2015), arXiv:1502.03167.
    """

    _shapes: ClassVar = {4: "(N, C, H, W)"}
