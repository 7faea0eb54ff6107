"""Activations with a parameter that is learned. They take any shape and keep it."""

from __future__ import annotations

from typing import Any

from nnk import backend
from nnk.nn import arguments, init
from nnk.nn.module import Module
from nnk.nn.parameter import Parameter

__all__ = ["PReLU", "Swish"]


class PReLU(Module):
    """y = x where x > 0, else weight x: a leaky ReLU that learns its slope.

    dx = dy where x > 0, else weight dy; dweight = sum of dy x over the elements x <= 0.
    `weight` (num_parameters,) starts at `init`. One slope serves inputs of any shape; several are those of the channels
    of an input (N, C, …).

    Raises ValueError when the input has another number of channels, TypeError on another dtype than the weight's.
    Source: He et al. (2015), arXiv:1502.01852, section 2.1. (Decaying the weight would pull it towards ReLU.)
    """

    def __init__(self, num_parameters: int = 1, init: float = 0.25, device: str | None = None, dtype: Any = None):
        self.num_parameters = arguments.integer(num_parameters, "num_parameters", 1)
        self.init = arguments.number(init, "init")
        self.weight = Parameter(_filled(num_parameters, init, device, dtype))

    def reset_parameters(self) -> None:
        """Set the slopes back to `init`."""
        self.weight.data[...] = self.init

    def forward(self, x: Any) -> Any:
        """Return x where it is positive, else weight x."""
        x = backend.as_array(x)
        weight = self.weight.data
        kernels = backend.of(x, weight)
        if weight.size != 1 and (x.ndim < 2 or x.shape[1] != weight.size):
            raise ValueError(
                f"PReLU: the input has shape {x.shape}, expected (N, {weight.size}, …): num_parameters is {weight.size}"
            )
        self.save(x)
        return kernels.prelu(x, weight)

    def backward(self, dy: Any, input_grad: bool = True) -> Any:
        """Add the gradient of the slopes; return that to the input."""
        x = self.saved()
        dx, dweight = backend.of(dy, self.weight.data).prelu_backward(dy, x, self.weight.data)
        if self.weight.requires_grad:
            self.weight.accumulate(dweight)
        return dx

    def extra_repr(self) -> str:
        """Return the arguments that `repr` shows."""
        return f"num_parameters={self.num_parameters}"


class Swish(Module):
    """y = x σ(beta x), σ(t) = 1 / (1 + exp(-t)); `SiLU` with a slope, which is learned if `learnable`.

    dx = dy (s + beta x s (1 - s)), dbeta = sum of dy x² s (1 - s), with s = σ(beta x).
    `beta` (1,) is a parameter; unless `learnable`, one that requires no gradient.

    Any shape. Raises TypeError on another dtype than that of `beta`.
    Source: Ramachandran, Zoph and Le (2017), arXiv:1710.05941.
    """

    def __init__(self, beta: float = 1.0, learnable: bool = False):
        self.beta = Parameter(_filled(1, arguments.number(beta, "beta"), None, None), requires_grad=learnable)

    def forward(self, x: Any) -> Any:
        """Return x σ(beta x)."""
        x = backend.as_array(x)
        kernels = backend.of(x, self.beta.data)
        self.save(x)
        return kernels.swish(x, self.beta.data)

    def backward(self, dy: Any, input_grad: bool = True) -> Any:
        """Add the gradient of beta; return that to the input."""
        x = self.saved()
        dx, dbeta = backend.of(dy, self.beta.data).swish_backward(dy, x, self.beta.data)
        if self.beta.requires_grad:
            self.beta.accumulate(dbeta)
        return dx

    def extra_repr(self) -> str:
        """Return the arguments that `repr` shows."""
        return f"beta={float(self.beta.data[0]):g}, learnable={self.beta.requires_grad}"


def _filled(size: int, value: float, device: str | None, dtype: Any) -> Any:
    data = init.empty((size,), device, dtype)
    data[...] = value
    return data
