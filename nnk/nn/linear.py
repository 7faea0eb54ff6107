"""The fully connected layer."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from nnk import backend
from nnk.nn import arguments, init
from nnk.nn.module import Module
from nnk.nn.parameter import Parameter

__all__ = ["Linear"]


class Linear(Module):
    """y = x Wᵀ + b over the last axis: x (*, in_features) -> y (*, out_features).

    Backward: dW = dyᵀ x, db = sum of dy over all leading axes, dx = dy W.
    `weight` is (out_features, in_features), `bias` (out_features,). Both start uniform in ±1/sqrt(in_features), as in
    PyTorch.

    Raises ValueError when the last axis is not in_features long, TypeError on another dtype than the weight's.
    Source, of the weight's start: He et al. (2015), arXiv:1502.01852, eq. 14, with a = sqrt(5).
    """

    fuses_as: ClassVar = "linear"

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, device: str | None = None, dtype: Any = None
    ):
        self.in_features = arguments.integer(in_features, "in_features", 0)
        self.out_features = arguments.integer(out_features, "out_features", 0)
        self.weight = Parameter(init.empty((out_features, in_features), device, dtype))
        self.bias = Parameter(init.empty((out_features,), device, dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weight and the bias anew."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(self.in_features) if self.in_features else 0.0
            init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Any) -> Any:
        """Return x Wᵀ + b."""
        x = backend.as_array(x)
        weight = self.weight.data
        if x.ndim == 0 or x.shape[-1] != weight.shape[1]:
            raise ValueError(
                f"Linear: the input has shape {x.shape}, expected (..., {weight.shape[1]}): in_features is "
                f"{weight.shape[1]}"
            )
        kernels, precision = backend.of(x, weight), backend.get_precision()
        bias = None if self.bias is None else self.bias.data
        self.save(x)
        if x.ndim == 2:
            return kernels.linear(x, weight, bias, precision=precision)
        return kernels.linear(_rows(x), weight, bias, precision=precision).reshape(*x.shape[:-1], weight.shape[0])

    def backward(self, dy: Any, input_grad: bool = True) -> Any:
        """Add the gradients of weight and bias; return that to the input."""
        x = self.saved()
        shape = x.shape
        weight = self.weight.data
        kernels, precision = backend.of(dy, weight), backend.get_precision()
        if x.ndim != 2:
            x, dy = _rows(x), _rows(dy)
        if self.weight.requires_grad:
            self.weight.accumulate(kernels.linear_wgrad(dy, x, precision=precision))
        if self.bias is not None and self.bias.requires_grad:
            self.bias.accumulate(kernels.linear_bgrad(dy))
        if input_grad:
            return kernels.linear_dgrad(dy, weight, precision=precision).reshape(shape)

    def extra_repr(self) -> str:
        """Return the arguments that `repr` shows."""
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


def _rows(x: Any) -> Any:
    # Not reshape(-1, n): with an empty axis -1 has no answer.
    return x.reshape(int(np.prod(x.shape[:-1])), x.shape[-1])
