"""Functions of single elements.

They take arrays of any shape, 0-d included, and keep shape, dtype and memory order. `inplace` is accepted for
compatibility and changes nothing: the input stays as it is.

Raises TypeError on inputs that are no floats.
"""

from __future__ import annotations

from typing import Any, ClassVar

from nnk import backend
from nnk.nn.module import Module

__all__ = ["Hardsigmoid", "Hardswish", "LeakyReLU", "ReLU", "ReLU6", "Sigmoid", "Tanh"]


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
        return _inplace(self)


class _Elementwise(Module):
    """y = f(x), dx = dy f'(x): one kernel each way, `function` and `function` + "_backward"."""

    function: ClassVar[str]
    keeps_output: ClassVar[bool] = False  # backward takes y instead of x

    def _options(self) -> dict[str, Any]:
        """Return what the kernels are to know besides arrays."""
        return {}

    def forward(self, x: Any) -> Any:
        """Return f(x)."""
        x = backend.as_array(x)
        y = getattr(backend.of(x), self.function)(x, **self._options())
        self.save(y if self.keeps_output else x)
        return y

    def backward(self, dy: Any, input_grad: bool = True) -> Any:
        """Return dy f'(x)."""
        if input_grad:
            return getattr(backend.of(dy), f"{self.function}_backward")(dy, self.saved(), **self._options())

    def extra_repr(self) -> str:
        """Return the arguments that `repr` shows."""
        return _inplace(self)


def _inplace(module: Any) -> str:
    return "inplace=True" if getattr(module, "inplace", False) else ""


class LeakyReLU(_Elementwise):
    """y = x where x > 0, else negative_slope * x; dx = dy or negative_slope * dy likewise.

    Source: Maas, Hannun and Ng (2013), "Rectifier nonlinearities improve neural network acoustic models".
    """

    function: ClassVar = "leaky_relu"

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False):
        self.negative_slope = negative_slope
        self.inplace = inplace

    def _options(self) -> dict[str, Any]:
        return {"negative_slope": self.negative_slope}

    def extra_repr(self) -> str:
        """Return the arguments that `repr` shows."""
        return ", ".join(filter(None, [f"negative_slope={self.negative_slope}", _inplace(self)]))


class ReLU6(_Elementwise):
    """y = min(max(x, 0), 6); dx = dy where 0 < y < 6, else 0.

    Source: Krizhevsky (2010), "Convolutional deep belief networks on CIFAR-10".
    """

    function: ClassVar = "relu6"
    keeps_output: ClassVar = True

    def __init__(self, inplace: bool = False):
        self.inplace = inplace


class Hardsigmoid(_Elementwise):
    """y = min(max(x + 3, 0), 6) / 6; dx = dy / 6 where -3 < x < 3, else 0.

    Source: Howard et al. (2019), arXiv:1905.02244.
    """

    function: ClassVar = "hardsigmoid"

    def __init__(self, inplace: bool = False):
        self.inplace = inplace


class Hardswish(_Elementwise):
    """y = x min(max(x + 3, 0), 6) / 6; dx = 0 where x <= -3, dy where x >= 3, else dy (2 x + 3) / 6.

    Source: Howard et al. (2019), arXiv:1905.02244, section 5.2.
    """

    function: ClassVar = "hardswish"

    def __init__(self, inplace: bool = False):
        self.inplace = inplace


class Sigmoid(_Elementwise):
    """y = 1 / (1 + exp(-x)); dx = dy y (1 - y)."""

    function: ClassVar = "sigmoid"
    keeps_output: ClassVar = True


class Tanh(_Elementwise):
    """y = tanh(x); dx = dy (1 - y²)."""

    function: ClassVar = "tanh"
    keeps_output: ClassVar = True
