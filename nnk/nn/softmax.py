"""Softmax and its logarithm: along one axis, numbers become probabilities.

`dim` counts axes, from the end if it is negative. Both keep shape and dtype. A row that holds NaN or
+∞, or nothing but -∞, becomes NaN.
"""

from __future__ import annotations

from typing import Any

from nnk import backend
from nnk.nn import arguments
from nnk.nn.module import Module

__all__ = ["LogSoftmax", "Softmax"]


class _AlongAxis(Module):
    """What the two have in common: the axis, and that backward takes the output."""

    function: str

    def __init__(self, dim: int | None = None):
        self.dim = None if dim is None else arguments.integer(dim, "dim")

    def _options(self) -> dict[str, Any]:
        """Return what the kernels are to know besides arrays and the axis."""
        return {}

    def _axis(self, shape: tuple[int, ...]) -> int:
        axes = max(len(shape), 1)
        dim = (0 if len(shape) in (0, 1, 3) else 1) if self.dim is None else self.dim
        if not -axes <= dim < axes:
            raise ValueError(f"{type(self).__name__}: the input has shape {shape}, no axis {dim}: dim is {self.dim}")
        return dim % axes

    def forward(self, x: Any) -> Any:
        """Return the probabilities, or their logarithms."""
        x = backend.as_array(x)
        options = {"dim": self._axis(x.shape), **self._options()}
        y = getattr(backend.of(x), self.function)(x if x.ndim else x.reshape(1), **options)
        self.save(y, options)
        return y.reshape(x.shape)

    def backward(self, dy: Any, input_grad: bool = True) -> Any:
        """Return the gradient to the input."""
        if input_grad:
            y, options = self.saved()
            dx = getattr(backend.of(dy), f"{self.function}_backward")(dy.reshape(y.shape), y, **options)
            return dx.reshape(dy.shape)

    def extra_repr(self) -> str:
        """Return the arguments that `repr` shows."""
        return f"dim={self.dim}"


class Softmax(_AlongAxis):
    """y_i = exp(x_i / temperature) / sum over j of exp(x_j / temperature), along axis `dim`.

    dx = y (dy - sum of dy y) / temperature. A temperature above 1 evens the probabilities out.

    Any shape; without `dim`, the axis is 0 for inputs of no, one or three axes, else 1, as in PyTorch.
    Raises ValueError unless temperature > 0 and when there is no such axis, TypeError on inputs that are no floats.
    Sources: Bridle (1990); with a temperature, Hinton, Vinyals and Dean (2015), arXiv:1503.02531, eq. 1.
    """

    function = "softmax"

    def __init__(self, dim: int | None = None, *, temperature: float = 1.0):
        if not arguments.number(temperature, "temperature") > 0:
            raise ValueError(f"temperature is {temperature}, expected more than 0")
        super().__init__(dim)
        self.temperature = temperature

    def _options(self) -> dict[str, Any]:
        return {"temperature": self.temperature}

    def extra_repr(self) -> str:
        """Return the arguments that `repr` shows."""
        return f"dim={self.dim}" + ("" if self.temperature == 1 else f", temperature={self.temperature}")


class LogSoftmax(_AlongAxis):
    """y_i = x_i - log of the sum over j of exp(x_j), along axis `dim`: the logarithm of softmax, exact where that is 0.

    dx = dy - exp(y) times the sum of dy.

    Shapes, the axis without `dim`, errors and source are those of `Softmax`.
    """

    function = "log_softmax"
