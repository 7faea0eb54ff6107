"""An array that is trained, with its gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nnk import backend

__all__ = ["Parameter"]


class Parameter:
    """An array that is trained: `data`, and `grad`, the gradient of the loss to it.

    `data` is kept C-contiguous; assigning any float array replaces it, ``p.data[...] = value`` writes into it. `grad`
    is None until a backward puts an array there; further backwards add to it until `zero_grad` sets it to None again.
    Any array of the parameter's shape may be assigned. With ``requires_grad=False`` backward computes no gradient.

    `constraint`, where there is one, is a function that moves `data` in place to the nearest values allowed. Optimisers
    call it after each of their updates: projected gradient descent. Were it applied in a layer's forward, what is saved
    or averaged between an update and the next forward would not keep to it.

    Raises TypeError when `data` holds no floats, ValueError when `grad` has another shape.
    """

    __slots__ = ("_data", "_grad", "constraint", "requires_grad")

    def __init__(self, data: Any, requires_grad: bool = True, *, constraint: Callable[[Any], Any] | None = None):
        self._grad = None
        self.data = data
        self.requires_grad = bool(requires_grad)
        self.constraint = constraint

    @property
    def data(self) -> Any:
        """The array itself."""
        return self._data

    @data.setter
    def data(self, value: Any) -> None:
        if isinstance(value, Parameter):
            value = value._data
        value = backend.as_array(value)
        if not backend.is_float(value.dtype):
            raise TypeError(f"data has dtype {value.dtype}, expected a float dtype")
        usable = value.flags.c_contiguous and getattr(value.flags, "writeable", True)
        self._data = value if usable else value.copy(order="C")

    @property
    def grad(self) -> Any:
        """The gradient, or None."""
        return self._grad

    @grad.setter
    def grad(self, value: Any) -> None:
        if value is not None:
            value = backend.as_array(value)
            if value.shape != self._data.shape:
                raise ValueError(f"grad has shape {value.shape}, expected the parameter's, {self._data.shape}")
        self._grad = value

    def accumulate(self, grad: Any) -> None:
        """Add `grad` to `.grad`, into a new array: nobody's copy of an earlier gradient changes.

        It is brought to the dtype of the parameter: float32 ones get float32 from kernels, beside 16-bit images too.
        """
        if grad.dtype != self._data.dtype:
            grad = grad.astype(self._data.dtype)
        if self._grad is not None:
            held = self._grad.astype(grad.dtype, copy=False)
            grad = backend.of(grad, held).add(held, grad)
        self._grad = grad

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return self._data.shape

    @property
    def dtype(self) -> np.dtype:
        """Dtype of the array."""
        return self._data.dtype

    @property
    def ndim(self) -> int:
        """Number of axes of the array."""
        return self._data.ndim

    @property
    def size(self) -> int:
        """Number of elements of the array."""
        return self._data.size

    def __deepcopy__(self, memo: dict) -> Parameter:
        copy = Parameter(self._data.copy(), self.requires_grad, constraint=self.constraint)
        copy._grad = None if self._grad is None else self._grad.copy()
        memo[id(self)] = copy
        return copy

    def __getstate__(self) -> tuple:
        return self._data, self._grad, self.requires_grad, self.constraint

    def __setstate__(self, state: tuple) -> None:
        self._data, self._grad, self.requires_grad, self.constraint = state

    def __repr__(self) -> str:
        frozen = "" if self.requires_grad else ", requires_grad=False"
        return f"Parameter({self._data!r}{frozen})"
