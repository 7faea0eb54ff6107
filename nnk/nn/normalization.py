"""Norms of single samples, the same in training and in eval mode: group and layer normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from nnk import backend
from nnk.nn import arguments
from nnk.nn.normbase import Norm

__all__ = ["GroupNorm", "LayerNorm"]


class _SampleNorm(Norm):
    """A norm whose forward saves its input and its backward, a function of (dy, x, weight)."""

    def backward(self, dy: Any, input_grad: bool = True) -> Any:
        """Add the gradients of weight and bias; return that to the input."""
        x, backward = self.saved()
        dx, dweight, dbias = backward(dy, x, self._arrays()[0])
        self._accumulate(dweight, dbias)
        return dx if input_grad else None


class GroupNorm(_SampleNorm):
    """Group normalisation of (N, C, *): each group of neighbouring channels of each sample by itself.

        y = weight * (x - mean) / sqrt(var + eps) + bias

    The C = `num_channels` channels are cut into `num_groups` groups; mean and (biased) variance are taken over a
    group's channels and all axes behind them, in both modes, and the gradient goes through them. Weight and bias are
    one number per channel and start at 1 and 0; ``affine=False`` has neither, ``bias=False`` only the weight.

    Raises ValueError if num_channels is no multiple of num_groups, on an input with fewer than two axes or another
    number of channels, and on a single sample with a single value per group; TypeError on another dtype than the
    weight's.
    Source: Wu and He (2018), arXiv:1803.08494.
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-05,
        affine: bool = True,
        device: str | None = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ):
        self.num_groups = arguments.integer(num_groups, "num_groups", 1)
        self.num_channels = arguments.integer(num_channels, "num_channels", 1)
        if num_channels % num_groups:
            raise ValueError(f"num_channels is {num_channels}, expected a multiple of num_groups, {num_groups}")
        self.eps = arguments.number(eps, "eps")
        self.affine = affine
        self._fill((num_channels,), affine, bias, device, dtype)

    def forward(self, x: Any) -> Any:
        """Return `x` normalised."""
        x = backend.as_array(x)
        if x.ndim < 2 or x.shape[1] != self.num_channels:
            raise ValueError(
                f"GroupNorm: the input has shape {x.shape}, expected (N, {self.num_channels}, ...): num_channels is "
                f"{self.num_channels}"
            )
        if x.size == self.num_groups:
            raise ValueError(
                f"GroupNorm: the input has shape {x.shape}, one value in each of {self.num_groups} groups, expected "
                "more than one"
            )
        arrays = self._arrays()
        kernels = backend.of(x, *arrays)
        x = backend.channels_last(x)
        options = {"num_groups": self.num_groups, "eps": self.eps}
        y, mean, var = kernels.group_norm(x, *arrays, **options)
        self.save(x, partial(kernels.group_norm_backward, mean=mean, var=var, **options))
        return y

    def extra_repr(self) -> str:
        """Return the arguments that `repr` shows."""
        return (
            f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, "
            f"bias={self.bias is not None}"
        )


class LayerNorm(_SampleNorm):
    """Layer normalisation over the last axes of (*, normalized_shape), for each position in the axes before.

        y = weight * (x - mean) / sqrt(var + eps) + bias

    `normalized_shape` is the length of the last axis, an int, or the lengths of several. Mean and (biased) variance are
    taken over them in both modes, and the gradient goes through them. Weight and bias have that shape and start at 1
    and 0; ``elementwise_affine=False`` has neither, ``bias=False`` only the weight.

    Raises ValueError on an empty normalized_shape and on an input that does not end with it; TypeError on another dtype
    than the weight's.
    Source: Ba, Kiros and Hinton (2016), arXiv:1607.06450.
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-05,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: str | None = None,
        dtype: Any = None,
    ):
        lengths = tuple(normalized_shape) if isinstance(normalized_shape, Sequence) else (normalized_shape,)
        self.normalized_shape = tuple(arguments.integer(length, "normalized_shape", 0) for length in lengths)
        if not lengths:
            raise ValueError("normalized_shape is empty, expected the length of at least one axis")
        self.eps = arguments.number(eps, "eps")
        self.elementwise_affine = elementwise_affine
        self._fill(self.normalized_shape, elementwise_affine, bias, device, dtype)

    def forward(self, x: Any) -> Any:
        """Return `x` normalised."""
        x = backend.as_array(x)
        if x.shape[-len(self.normalized_shape) :] != self.normalized_shape:
            lengths = ", ".join(map(str, self.normalized_shape))
            raise ValueError(
                f"LayerNorm: the input has shape {x.shape}, expected (..., {lengths}): normalized_shape is "
                f"{self.normalized_shape}"
            )
        arrays = self._arrays()
        kernels = backend.of(x, *arrays)
        options = {"normalized_shape": self.normalized_shape, "eps": self.eps}
        y, mean, var = kernels.layer_norm(x, *arrays, **options)
        self.save(x, partial(kernels.layer_norm_backward, mean=mean, var=var, **options))
        return y

    def extra_repr(self) -> str:
        """Return the arguments that `repr` shows."""
        return (
            f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}, "
            f"bias={self.bias is not None}"
        )
