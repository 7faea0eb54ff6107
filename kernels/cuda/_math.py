"""Elementary functions of float32 for kernels: the machine's, and NumPy's in the simulator.

A literal like 1.0 is a float64 to Numba and would drag a whole expression into double precision, which GPUs compute at
a thirty-second of the speed or less: kernels write constants as module globals of type `np.float32`.
"""

from __future__ import annotations

import math

import numpy as np

from ._numba import SIMULATED, device
from .ptx import reciprocal

ZERO, HALF, ONE, TWO = np.float32(0), np.float32(0.5), np.float32(1), np.float32(2)
NAN, INFINITY = np.float32(np.nan), np.float32(np.inf)

if SIMULATED:

    def _in_float32(function):
        return lambda *x: np.float32(function(*map(np.float32, x)))

    exp, log, tanh, sqrt = map(_in_float32, (np.exp, np.log, np.tanh, np.sqrt))
    expm1, log1p, floor = map(_in_float32, (np.expm1, np.log1p, np.floor))
    absolute = _in_float32(np.abs)
    erf = _in_float32(lambda x: math.erf(x))
    power = _in_float32(np.power)

    def isnan(x: float) -> bool:
        """Whether x is NaN."""
        return bool(np.isnan(x))

    def fma(a: float, b: float, c: float) -> np.float32:
        """a b + c, rounded once."""
        return np.float32(np.float64(a) * np.float64(b) + np.float64(c))

else:
    exp, log, tanh, sqrt, expm1, log1p, erf = (
        math.exp, math.log, math.tanh, math.sqrt, math.expm1, math.log1p, math.erf,
    )  # fmt: skip
    floor, absolute, power, isnan = math.floor, math.fabs, math.pow, math.isnan

    from ._numba import cuda

    @device
    def fma(a, b, c):
        """a b + c, rounded once."""
        return cuda.fma(a, b, c)


@device
def clip(x, low, high):
    """x held between low and high; NaN stays."""
    return low if x < low else high if x > high else x


@device
def larger(a, b):
    """max(a, b), NaN if either is."""
    return a if a > b or a != a else b


@device
def smaller(a, b):
    """min(a, b), NaN if either is."""
    return a if a < b or a != a else b


@device
def sigmoid(x):
    """1 / (1 + e⁻ˣ), by the exponential that is at most 1: no reciprocal of a large number, which would be flushed."""
    e = exp(-absolute(x))
    share = reciprocal(ONE + e)
    return e * share if x < ZERO else share
