"""How parameters start: functions that fill an array in place, with torch.nn.init's names and arguments.

Each takes a `Parameter` or an array and returns it. Random ones draw from nnk's generator (`nnk.manual_seed`), or from
`generator`, a `numpy.random.Generator`; they draw in float64, so a model gets the same numbers in every dtype.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nnk import backend, random
from nnk.nn.parameter import Parameter

__all__ = [
    "calculate_gain",
    "constant_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "normal_",
    "ones_",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
    "zeros_",
]

Fillable = Any  # a Parameter or an array


def empty(shape: tuple[int, ...], device: str | None, dtype: Any) -> Any:
    """Return a new array whose contents are to be filled, from a module's `device` and `dtype` arguments."""
    return full(shape, 0.0, device, dtype)


def full(shape: tuple[int, ...], value: float, device: str | None, dtype: Any) -> Any:
    """Return a new array of `value`, from a module's `device` and `dtype` arguments."""
    return backend.asarray_on(np.full(shape, value, backend.as_dtype(dtype)), backend.check_device(device))


def _fill(tensor: Fillable, values: Any) -> Fillable:
    array = tensor.data if isinstance(tensor, Parameter) else tensor
    array[...] = values if np.ndim(values) == 0 else backend.asarray_on(values, backend.device_of(array))
    return tensor


def constant_(tensor: Fillable, val: float) -> Fillable:
    """Fill with `val`."""
    return _fill(tensor, val)


def zeros_(tensor: Fillable) -> Fillable:
    """Fill with 0."""
    return _fill(tensor, 0.0)


def ones_(tensor: Fillable) -> Fillable:
    """Fill with 1."""
    return _fill(tensor, 1.0)


def uniform_(
    tensor: Fillable, a: float = 0.0, b: float = 1.0, generator: np.random.Generator | None = None
) -> Fillable:
    """Fill with numbers drawn evenly from [a, b)."""
    return _fill(tensor, (generator or random.generator()).uniform(a, b, tensor.shape))


def normal_(
    tensor: Fillable, mean: float = 0.0, std: float = 1.0, generator: np.random.Generator | None = None
) -> Fillable:
    """Fill with numbers drawn from a normal distribution."""
    return _fill(tensor, (generator or random.generator()).normal(mean, std, tensor.shape))


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """Return the factor by which weights before a nonlinearity are scaled to keep the variance of activations.

    1 for linear layers, convolutions and sigmoid, 5/3 for tanh, sqrt(2) for relu, sqrt(2 / (1 + param²)) for leaky_relu
    of slope `param` (0.01 for None), 3/4 for selu. Raises ValueError on another name.
    Source: He et al. (2015), arXiv:1502.01852, eqs. 10 and 15; tanh and selu are PyTorch's.
    """
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        if isinstance(slope, bool) or not isinstance(slope, (int, float)):
            raise ValueError(f"param is {param!r}, expected the slope of leaky_relu, a number")
        return math.sqrt(2 / (1 + slope**2))
    convolutions = {f"conv{kind}{d}d": 1.0 for kind in ("", "_transpose") for d in (1, 2, 3)}
    gains = {"linear": 1.0, **convolutions, "sigmoid": 1.0, "tanh": 5 / 3, "relu": math.sqrt(2), "selu": 3 / 4}
    if nonlinearity not in gains:
        raise ValueError(f"nonlinearity is {nonlinearity!r}, expected one of {sorted([*gains, 'leaky_relu'])}")
    return gains[nonlinearity]


def _fans(tensor: Fillable) -> tuple[int, int]:
    """Return how many inputs feed one output, and how many outputs one input feeds: (out, in, *window) weights."""
    if len(tensor.shape) < 2:
        raise ValueError(f"tensor has shape {tensor.shape}, expected at least two axes (out, in, ...)")
    window = math.prod(tensor.shape[2:])
    return tensor.shape[1] * window, tensor.shape[0] * window


def _kaiming_std(tensor: Fillable, a: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"mode is {mode!r}, expected 'fan_in' or 'fan_out'")
    fan = _fans(tensor)[mode == "fan_out"]
    return calculate_gain(nonlinearity, a) / math.sqrt(fan) if fan else 0.0


def kaiming_uniform_(
    tensor: Fillable,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: np.random.Generator | None = None,
) -> Fillable:
    """Fill evenly from ±gain * sqrt(3 / fan), where the gain is that of `nonlinearity` with slope `a`.

    Raises ValueError on another `mode` than fan_in, fan_out, and below two axes.
    Source: He et al. (2015), arXiv:1502.01852, eqs. 10 and 14.
    """
    bound = math.sqrt(3) * _kaiming_std(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Fillable,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: np.random.Generator | None = None,
) -> Fillable:
    """Fill from a normal distribution of standard deviation gain / sqrt(fan); see `kaiming_uniform_`."""
    return normal_(tensor, 0.0, _kaiming_std(tensor, a, mode, nonlinearity), generator)


def _xavier_std(tensor: Fillable, gain: float) -> float:
    fans = sum(_fans(tensor))
    return gain * math.sqrt(2 / fans) if fans else 0.0


def xavier_uniform_(
    tensor: Fillable, gain: float = 1.0, generator: np.random.Generator | None = None
) -> Fillable:
    """Fill evenly from ±gain * sqrt(6 / (fan_in + fan_out)).

    Source: Glorot and Bengio (2010), "Understanding the difficulty of training deep feedforward neural networks",
    eq. 16.
    """
    bound = math.sqrt(3) * _xavier_std(tensor, gain)
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(
    tensor: Fillable, gain: float = 1.0, generator: np.random.Generator | None = None
) -> Fillable:
    """Fill from a normal distribution of standard deviation gain * sqrt(2 / (fan_in + fan_out)).

    Source: Glorot and Bengio (2010), eq. 12.
    """
    return normal_(tensor, 0.0, _xavier_std(tensor, gain), generator)
