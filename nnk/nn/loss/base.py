"""What losses have in common: the reduction, and the checks of what goes in beside the input."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from nnk import backend
from nnk.nn import arguments
from nnk.nn.module import Module

__all__ = ["ElementwiseLoss", "Loss", "broadcast", "check_range", "operand"]


class Loss(Module):
    """A loss with a `reduction`: "mean", "sum" or "none", which keeps the loss of every element."""

    reductions: ClassVar[tuple[str, ...]] = ("none", "mean", "sum")

    def __init__(self, size_average: None = None, reduce: None = None, reduction: str = "mean"):
        arguments.only(size_average, "size_average", None)
        arguments.only(reduce, "reduce", None)
        if reduction not in self.reductions:
            *most, last = map(repr, self.reductions)
            raise ValueError(f"reduction is {reduction!r}, expected {', '.join(most)} or {last}")
        self.reduction = reduction


class ElementwiseLoss(Loss):
    """A loss of input and target, element by element, that the kernels `kernel` and `kernel`_backward compute.

    A subclass says in `operands` what it takes for a target and in `options` what else the kernels need.
    """

    kernel: ClassVar[str]

    def operands(self, input: Any, target: Any) -> tuple[Any, ...]:
        """Return the arrays that the kernels take after the input; raise on what does not fit."""
        raise NotImplementedError

    def options(self) -> dict[str, Any]:
        """Return the keyword arguments of the kernels beside `reduction`."""
        return {}

    def forward(self, input: Any, target: Any) -> Any:
        """Return the loss."""
        input = backend.as_array(input)
        backend.of(input)  # before its dtype is asked of others
        operands = self.operands(input, target)
        kernels = backend.of(input, *operands)
        options = {"reduction": self.reduction, **self.options()}
        self.save(input, operands, options)
        return getattr(kernels, self.kernel)(input, *operands, **options)

    def backward(self, dy: Any = None, input_grad: bool = True) -> Any:
        """Return the gradient to the input, for the gradient `dy` to the loss (None: ones)."""
        if not input_grad:
            return None
        input, operands, options = self.saved()
        return getattr(backend.of(input), f"{self.kernel}_backward")(dy, input, *operands, **options)


def operand(value: Any, name: str, input: Any, labels: bool = False) -> Any:
    """Return `value` as an array of the input's dtype. Where it holds `labels`, integers and bools will do.

    Raises TypeError on another dtype.
    """
    value = backend.as_array(value)
    if labels and value.dtype.kind in "biu":
        return value.astype(input.dtype)
    if value.dtype != input.dtype:
        raise TypeError(
            f"{name} has dtype {value.dtype}, expected the input's, {input.dtype}: convert it with "
            f"{name}.astype({str(input.dtype)!r})"
        )
    return value


def broadcast(**shapes: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape that arrays of these shapes broadcast to; raise ValueError, naming them, if there is none."""
    try:
        return np.broadcast_shapes(*shapes.values())
    except ValueError:
        listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(f"the shapes do not broadcast: {listed}") from None


def check_range(value: Any, name: str) -> None:
    """Raise ValueError unless all elements are from 0 to 1. NaN is not. What is on a GPU is not looked at."""
    if value.size and not backend.on_gpu(value) and not (value.min() >= 0 and value.max() <= 1):
        wrong = value[~((value >= 0) & (value <= 1))][0]
        raise ValueError(f"{name} holds {wrong}, expected probabilities from 0 to 1")
