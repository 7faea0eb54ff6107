"""What is done to the gradients of many parameters at once, between backward and the optimiser's step."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from nnk.nn import arguments
from nnk.nn.parameter import Parameter

__all__ = ["clip_grad_norm_", "clip_grad_value_"]


def _with_grad(parameters: Parameter | Iterable[Parameter]) -> list[Parameter]:
    parameters = [parameters] if isinstance(parameters, Parameter) else parameters
    return [parameter for parameter in parameters if parameter.grad is not None]


def clip_grad_norm_(
    parameters: Parameter | Iterable[Parameter],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: None = None,
) -> Any:
    """Scale all gradients by min(1, max_norm / (norm + 1e-6)), where norm is that of all of them as one vector.

    `norm_type` is the p of the p-norm, inf for the largest absolute value. Returns the norm before, a 0-d array.
    Raises RuntimeError on a norm that is not finite, if `error_if_nonfinite`; ValueError unless `foreach` is None.
    Source: Pascanu, Mikolov and Bengio (2013), arXiv:1211.5063, algorithm 1.
    """
    arguments.only(foreach, "foreach", None)
    clipped = _with_grad(parameters)
    if not clipped:
        return np.zeros((), np.float32)
    # One number for each array, in float64: the sum of many float32 squares would lose digits.
    norms = [float(np.linalg.norm(parameter.grad.astype(np.float64).ravel(), norm_type)) for parameter in clipped]
    norm = float(np.linalg.norm(norms, norm_type))
    if error_if_nonfinite and not math.isfinite(norm):
        raise RuntimeError(f"the norm of all gradients is {norm}, so they cannot be clipped to max_norm {max_norm}")
    scale = max_norm / (norm + 1e-6)
    if not scale >= 1:
        with np.errstate(invalid="ignore"):  # an infinite norm makes the infinite elements NaN, as in PyTorch
            for parameter in clipped:
                parameter.grad = parameter.grad * parameter.grad.dtype.type(scale)
    return np.asarray(norm, clipped[0].grad.dtype)


def clip_grad_value_(
    parameters: Parameter | Iterable[Parameter], clip_value: float, foreach: None = None
) -> None:
    """Bring every element of all gradients into the range ±clip_value; NaN stays NaN.

    Raises ValueError on another `foreach` than None.
    """
    arguments.only(foreach, "foreach", None)
    for parameter in _with_grad(parameters):
        parameter.grad = np.clip(parameter.grad, -clip_value, clip_value)
