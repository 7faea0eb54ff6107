"""Functions of single elements: ReLU, leaky ReLU, the logistic function, the hyperbolic tangent.

They take arrays of any shape, 0-d included, and keep shape, dtype and memory order. `inplace` is accepted for
compatibility and changes nothing: the input stays as it is.
"""

from __future__ import annotations

from typing import Any, ClassVar

from nnk import backend
from nnk.nn.module import Module

__all__ = ["LeakyReLU", "ReLU", "Sigmoid", "Tanh"]


class ReLU(Module):
    """y = max(x, 0); dx = dy where y > 0, else 0. NaN stays NaN.

    Source: Nair and Hinton (2010), "Rectified linear units improve restricted Boltzmann machines".
    """

    fuses_as: ClassVar = "relu"

    def __init__(self, inplace: bool = False):
        self.inplace = inplace

    def forward(self, x: Any, rectified: bool = False) -> Any:
        """Return max(x, 0). `rectified` is explained in `nnk.nn.fusion`."""
        x = backend.as_array(x)
        y = x if rectified else backend.of(x).relu(x)
        self.save(y)
        return y

    def backward(self, dy: Any, input_grad: bool = True, rectified: bool = False) -> Any:
        """Return dy where the output was positive, else 0."""
        if input_grad:
            return dy if rectified else backend.of(dy).relu_backward(dy, self.saved())

    def extra_repr(self) -> str:
        """Return the arguments that `repr` shows."""
        return "inplace=True" if self.inplace else ""


class LeakyReLU(Module):
    """y = x where x > 0, else negative_slope * x; dx = dy or negative_slope * dy likewise.

    Source: Maas, Hannun and Ng (2013), "Rectifier nonlinearities improve neural network acoustic models".
    """

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False):
        self.negative_slope = negative_slope
        self.inplace = inplace

    def forward(self, x: Any) -> Any:
        """Return x where it is positive, else negative_slope * x."""
        x = backend.as_array(x)
        self.save(x)
        return backend.of(x).leaky_relu(x, negative_slope=self.negative_slope)

    def backward(self, dy: Any, input_grad: bool = True) -> Any:
        """Return dy where the input was positive, else negative_slope * dy."""
        if input_grad:
            return backend.of(dy).leaky_relu_backward(dy, self.saved(), negative_slope=self.negative_slope)

    def extra_repr(self) -> str:
        """Return the arguments that `repr` shows."""
        return f"negative_slope={self.negative_slope}" + (", inplace=True" if self.inplace else "")


class Sigmoid(Module):
    """y = 1 / (1 + exp(-x)); dx = dy * y * (1 - y)."""

    def forward(self, x: Any) -> Any:
        """Return 1 / (1 + exp(-x))."""
        x = backend.as_array(x)
        y = backend.of(x).sigmoid(x)
        self.save(y)
        return y

    def backward(self, dy: Any, input_grad: bool = True) -> Any:
        """Return dy * y * (1 - y)."""
        if input_grad:
            return backend.of(dy).sigmoid_backward(dy, self.saved())


class Tanh(Module):
    """y = tanh(x); dx = dy * (1 - y²)."""

    def forward(self, x: Any) -> Any:
        """Return tanh(x)."""
        x = backend.as_array(x)
        y = backend.of(x).tanh(x)
        self.save(y)
        return y

    def backward(self, dy: Any, input_grad: bool = True) -> Any:
        """Return dy * (1 - y²)."""
        if input_grad:
            return backend.of(dy).tanh_backward(dy, self.saved())
