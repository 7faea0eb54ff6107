"""What is done to the gradients of many parameters at once, between backward and the optimiser's step.

Clipped gradients are new arrays in `.grad`; the arrays that backward put there stay as they are. An optimiser's
``step(clip_norm=..., clip_value=...)`` does the same within the pass of the update.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from nnk import backend
from nnk.nn import arguments
from nnk.nn.parameter import Parameter

__all__ = ["clip_grad_norm_", "clip_grad_value_", "clip_grads_with_norm_", "get_total_norm"]


def get_total_norm(
    tensors: Any, norm_type: float = 2.0, error_if_nonfinite: bool = False, foreach: None = None
) -> Any:
    """Return the norm of all arrays as one vector, (Σ |x|^p)^(1/p), as a 0-d array; 0 for no arrays.

    `tensors` is an iterable of arrays or one array. `norm_type` is the p, inf for the largest and -inf for the smallest
    |x|; 0 counts the arrays that are not all zeros. The sum runs in two levels, in the same order on any number of
    threads.

    Raises RuntimeError on a norm that is not finite, if `error_if_nonfinite`; ValueError unless `foreach` is None.
    """
    arguments.only(foreach, "foreach", None)
    arrays = [backend.as_array(x) for x in ([tensors] if hasattr(tensors, "shape") else tensors)]
    norm_type = float(norm_type)
    if not arrays:
        norm = np.zeros((), np.float32)
    elif norm_type == 0:
        count = np.asarray(sum(bool(array.any()) for array in arrays), arrays[0].dtype)
        norm = backend.asarray_on(count, backend.device_of(arrays[0]))
    else:
        norm = backend.of(*arrays).total_norm(arrays, norm_type=norm_type)
    if error_if_nonfinite and not math.isfinite(norm):
        raise RuntimeError(f"the norm of all gradients is {norm}, so they cannot be clipped to a norm")
    return norm


def clip_scale(max_norm: float, total_norm: Any) -> Any:
    """Return min(1, max_norm / (total_norm + 1e-6)), NaN for a norm of NaN: a float, of a GPU's norm an array there."""
    if backend.on_gpu(total_norm):
        return np.minimum(float(max_norm) / (total_norm + 1e-6), 1.0)
    scale = float(max_norm) / (float(total_norm) + 1e-6)
    return 1.0 if scale >= 1 else scale


def clip_grads_with_norm_(
    parameters: Parameter | Iterable[Parameter], max_norm: float, total_norm: Any, foreach: None = None
) -> None:
    """Scale all gradients by min(1, max_norm / (total_norm + 1e-6)), with the norm from `get_total_norm`.

    Raises ValueError unless `foreach` is None.
    """
    arguments.only(foreach, "foreach", None)
    scale = clip_scale(max_norm, total_norm)
    if backend.on_gpu(scale) or scale != 1:
        _replace(_with_grad(parameters), scale=scale)


def clip_grad_norm_(
    parameters: Parameter | Iterable[Parameter],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: None = None,
) -> Any:
    """Scale all gradients by min(1, max_norm / (norm + 1e-6)), where norm is that of all of them as one vector.

    Returns the norm before, a 0-d array; see `get_total_norm` for the arguments and errors, and TypeError on what is no
    parameter. A norm of inf or NaN makes infinite elements, or all, NaN, as in PyTorch.
    Source: Pascanu, Mikolov and Bengio (2013), arXiv:1211.5063, algorithm 1.
    """
    clipped = _with_grad(parameters)
    norm = get_total_norm(map(_gradient, clipped), norm_type, error_if_nonfinite, foreach)
    clip_grads_with_norm_(clipped, max_norm, norm)
    return norm


def clip_grad_value_(
    parameters: Parameter | Iterable[Parameter], clip_value: float, foreach: None = None
) -> None:
    """Bring every element of all gradients into the range ±clip_value; NaN stays NaN.

    Raises ValueError on a negative `clip_value`, and unless `foreach` is None; TypeError on what is no parameter.
    """
    arguments.only(foreach, "foreach", None)
    clip_value = float(clip_value)
    if not clip_value >= 0:
        raise ValueError(f"clip_value is {clip_value}, expected at least 0")
    # To the kernel a clip_value of 0 means none.
    options = {"clip_value": clip_value} if clip_value else {"clip_value": 1.0, "scale": 0.0}
    _replace(_with_grad(parameters), **options)


def _with_grad(parameters: Parameter | Iterable[Parameter]) -> list[Parameter]:
    if not isinstance(parameters, (Parameter, Iterable)):
        raise TypeError(
            f"parameters is a {type(parameters).__name__}, expected parameters, as model.parameters() gives them"
        )
    parameters = [parameters] if isinstance(parameters, Parameter) else list(parameters)
    for parameter in parameters:
        if not isinstance(parameter, Parameter):
            raise TypeError(f"parameters holds a {type(parameter).__name__}, expected nnk.nn.Parameter")
    return [parameter for parameter in parameters if parameter.grad is not None]


def _gradient(parameter: Parameter) -> Any:
    return parameter.grad.astype(parameter.dtype, copy=False)


def _replace(parameters: list[Parameter], **options: float) -> None:
    if parameters:
        grads = list(map(_gradient, parameters))
        with np.errstate(invalid="ignore"):  # 0 times infinity
            for parameter, grad in zip(parameters, backend.of(*grads).clipped(grads, **options)):
                parameter.grad = grad
