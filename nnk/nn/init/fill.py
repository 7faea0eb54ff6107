"""Functions that fill an array in place.

Each takes a `Parameter` or an array and returns it. Random ones draw from nnk's generator (`nnk.manual_seed`), or from
`generator`, a `numpy.random.Generator`; they draw in float64, so a model gets the same numbers in every dtype. All
raise TypeError on anything but a `Parameter` or an array of floats.
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
    "dirac_",
    "empty",
    "eye_",
    "full",
    "kaiming_normal_",
    "kaiming_uniform_",
    "normal_",
    "ones_",
    "orthogonal_",
    "sparse_",
    "trunc_normal_",
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


def _shape(tensor: Fillable) -> tuple[int, ...]:
    """Return the shape of what is to be filled; raise TypeError unless it is a `Parameter` or an array of floats."""
    if not isinstance(tensor, (Parameter, np.ndarray)) and backend.device_of(tensor) != "cuda":
        raise TypeError(f"tensor is a {type(tensor).__name__}, expected a Parameter or an array")
    if tensor.dtype.kind != "f":
        raise TypeError(f"tensor has dtype {tensor.dtype}, expected floats")
    return tensor.shape


def _fill(tensor: Fillable, values: Any) -> Fillable:
    _shape(tensor)  # for its check
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
    """Fill with numbers drawn evenly from [a, b).

    Raises ValueError unless a <= b.
    """
    if not a <= b:
        raise ValueError(f"a is {a} and b is {b}, expected a <= b")
    return _fill(tensor, (generator or random.generator()).uniform(a, b, _shape(tensor)))


def normal_(
    tensor: Fillable, mean: float = 0.0, std: float = 1.0, generator: np.random.Generator | None = None
) -> Fillable:
    """Fill with numbers drawn from a normal distribution of this `mean` and standard deviation `std`.

    Raises ValueError unless std >= 0.
    """
    if not std >= 0:
        raise ValueError(f"std is {std}, expected at least 0")
    return _fill(tensor, (generator or random.generator()).normal(mean, std, _shape(tensor)))


def trunc_normal_(
    tensor: Fillable,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: np.random.Generator | None = None,
) -> Fillable:
    """Fill with numbers drawn from a normal distribution, those outside [a, b] drawn again.

    Raises ValueError unless a < b and std > 0.
    """
    if not a < b:
        raise ValueError(f"a is {a} and b is {b}, expected a < b")
    if not std > 0:
        raise ValueError(f"std is {std}, expected above 0")
    draws = generator or random.generator()
    low, high = (a - mean) / std, (b - mean) / std
    inside = (math.erf(high / math.sqrt(2)) - math.erf(low / math.sqrt(2))) / 2
    peak = min(max(0.0, low), high)  # where the density within the bounds is largest
    values = np.empty(math.prod(_shape(tensor)))
    missing = np.arange(values.size)
    while missing.size:
        if inside > 0.3:
            z = draws.standard_normal(missing.size)
            accepted = (z >= low) & (z <= high)
        else:  # in the tail too few would be kept: even draws, kept as often as the density says
            z = draws.uniform(low, high, missing.size)
            accepted = np.log1p(-draws.random(missing.size)) <= (peak**2 - z**2) / 2
        values[missing[accepted]] = z[accepted]
        missing = missing[~accepted]
    return _fill(tensor, mean + std * values.reshape(tensor.shape))


def eye_(tensor: Fillable) -> Fillable:
    """Fill a matrix with ones on its diagonal and zeros elsewhere: y = x, as far as the sizes allow.

    Raises ValueError unless there are two axes.
    """
    return _fill(tensor, np.eye(*_matrix(tensor)))


def dirac_(tensor: Fillable, groups: int = 1) -> Fillable:
    """Fill a convolution's weights (out, in / groups, *window) so that channels pass unchanged, as far as there are.

    Within each of `groups` groups, output channel d is input channel d. Raises ValueError unless there are three to
    five axes, the first a multiple of `groups`.
    """
    shape = _shape(tensor)
    if len(shape) not in (3, 4, 5):
        raise ValueError(f"tensor has shape {shape}, expected three to five axes (out, in, *window)")
    if groups < 1 or shape[0] % groups:
        raise ValueError(f"groups is {groups}, expected a divisor of the first axis, {shape[0]}")
    values = np.zeros(shape)
    size = shape[0] // groups
    passed = np.arange(min(size, shape[1]))
    centre = tuple(length // 2 for length in shape[2:])
    for group in range(groups):
        values[(group * size + passed, passed, *centre)] = 1
    return _fill(tensor, values)


def orthogonal_(
    tensor: Fillable, gain: float = 1, generator: np.random.Generator | None = None
) -> Fillable:
    """Fill with `gain` times a random (semi-)orthogonal matrix of shape (first axis, all others).

    Raises ValueError below two axes. Sources: Saxe, McClelland and Ganguli (2014), arXiv:1312.6120; Mezzadri (2007),
    arXiv:math-ph/0609050, for the signs that make it uniform.
    """
    columns, _ = _fans(tensor)
    rows = tensor.shape[0]
    if rows * columns == 0:
        return tensor
    q, r = np.linalg.qr((generator or random.generator()).standard_normal((max(rows, columns), min(rows, columns))))
    q *= np.where(np.diag(r) < 0, -1, 1)
    return _fill(tensor, gain * (q.T if rows < columns else q).reshape(tensor.shape))


def sparse_(
    tensor: Fillable, sparsity: float, std: float = 0.01, generator: np.random.Generator | None = None
) -> Fillable:
    """Fill a matrix from a normal distribution, but a random part `sparsity` of each column with zeros, rounded up.

    Raises ValueError unless there are two axes and 0 <= sparsity <= 1.
    Source: Martens (2010), "Deep learning via Hessian-free optimization", section 5.
    """
    rows, columns = _matrix(tensor)
    if not 0 <= sparsity <= 1:
        raise ValueError(f"sparsity is {sparsity}, expected 0 <= sparsity <= 1")
    draws = generator or random.generator()
    values = draws.normal(0, std, (rows, columns))
    ranks = draws.random((rows, columns)).argsort(axis=0)
    np.put_along_axis(values, ranks[: math.ceil(sparsity * rows)], 0, axis=0)
    return _fill(tensor, values)


def _matrix(tensor: Fillable) -> tuple[int, int]:
    shape = _shape(tensor)
    if len(shape) != 2:
        raise ValueError(f"tensor has shape {shape}, expected two axes")
    return shape


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
    shape = _shape(tensor)
    if len(shape) < 2:
        raise ValueError(f"tensor has shape {shape}, expected at least two axes (out, in, ...)")
    window = math.prod(shape[2:])
    return shape[1] * window, shape[0] * window


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
