"""Instance normalisation."""

from __future__ import annotations

from functools import partial
from typing import Any

from nnk import backend
from nnk.nn.normbase import RunningNorm

__all__ = ["InstanceNorm2d"]


class InstanceNorm2d(RunningNorm):
    """Instance normalisation of images (N, C, H, W) or (C, H, W): each channel of each image by itself.

        y = weight * (x - mean) / sqrt(var + eps) + bias

    Mean and (biased) variance are taken over H and W, in both modes, and the gradient goes through them. Weight and
    bias, one number per channel, are there with ``affine=True`` only; they start at 1 and 0.

    With ``track_running_stats=True`` there are buffers `running_mean` and `running_var`, which move in training by
    ``running += momentum * (new - running)``, where the new mean and (unbiased) variance are averages over the batch's
    images; in eval mode they stand for the statistics of each image, as constants. As in PyTorch they stay as they are
    with ``momentum=None``, and `num_batches_tracked` stays 0. An empty batch leaves them alone.

    Raises ValueError on an input with another number of axes or channels, and on a single value per channel wherever
    an image's own statistics are used; TypeError on another dtype than the weight's.
    Source: Ulyanov et al. (2016), arXiv:1607.08022.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-05,
        momentum: float | None = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        device: str | None = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ):
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias)

    def forward(self, x: Any) -> Any:
        """Return `x` normalised."""
        x = backend.as_array(x)
        if x.ndim not in (3, 4) or x.shape[-3] != self.num_features:
            raise ValueError(
                f"InstanceNorm2d: the input has shape {x.shape}, expected (N, {self.num_features}, H, W) or "
                f"({self.num_features}, H, W): num_features is {self.num_features}"
            )
        vectors = self._arrays()
        kernels = backend.of(x, *vectors, self.running_mean, self.running_var)
        images = backend.channels_last(_batched(x))
        if self.training or self.running_mean is None:
            check_positions(self, x)
            y, mean, var = kernels.group_norm(images, *vectors, num_groups=self.num_features, eps=self.eps)
            backward = partial(
                kernels.group_norm_backward, mean=mean, var=var, num_groups=self.num_features, eps=self.eps
            )
            if self.training and self.running_mean is not None and self.momentum is not None and x.size:
                self._move(mean, var, images.shape[2] * images.shape[3])
        else:
            running = self.running_mean, self.running_var
            y = kernels.batch_norm_eval(images, *vectors, *running, eps=self.eps)
            # Copies: a forward in training may move the running statistics before this one's backward.
            mean, var = (statistic.copy() for statistic in running)
            backward = partial(kernels.batch_norm_eval_backward, running_mean=mean, running_var=var, eps=self.eps)
        self.save(images, backward)
        return y if x.ndim == 4 else y[0]

    def _move(self, mean: Any, var: Any, positions: int) -> None:
        """Let the running statistics move towards the averages of those of single images, (N, C)."""
        self.running_mean += self.momentum * (mean.mean(axis=0) - self.running_mean)
        self.running_var += self.momentum * (var.mean(axis=0) * (positions / (positions - 1)) - self.running_var)

    def backward(self, dy: Any, input_grad: bool = True) -> Any:
        """Add the gradients of weight and bias; return that to the input."""
        images, backward = self.saved()
        dx, dweight, dbias = backward(_batched(dy), images, self._arrays()[0])
        self._accumulate(dweight, dbias)
        if input_grad:
            return dx if dy.ndim == 4 else dx[0]


def _batched(x: Any) -> Any:
    return x if x.ndim == 4 else x[None]


def check_positions(module: RunningNorm, x: Any) -> None:
    """Raise ValueError if images have a single value per channel, which is its own mean."""
    if x.shape[-2] * x.shape[-1] == 1:
        raise ValueError(
            f"{type(module).__name__}: the input has shape {x.shape}, one value per channel, expected more than one "
            "position"
        )
