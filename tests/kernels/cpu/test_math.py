"""exp, log, tanh, erf and their like against float64, over a dense sample of all float32 bit patterns."""

import math

import numpy as np
import pytest
from numba import njit

from nnk.kernels.cpu import _math
from nnk.kernels.cpu.simd import L, vload, vload_n, vstore, vstore_n

STRIDE = 997  # a prime: the sample meets every exponent, and every low digit of the mantissa
EDGES = (0.625, 0.75, 1.0, 2 / 3, 4 / 3, 0.5 * np.log(2), 88.72284, 89.0, 104.0, 103.97208, 87.33655, 9.010913, 3.92,
         17.32868, 2.0**-126)


def logistic(x):
    return 1 / (1 + np.exp(-x))


def erf(x):
    return np.asarray(np.frompyfunc(math.erf, 1, 1)(x), np.float64)


# The bounds, and the range where there is one, are those that the docstrings state.
FUNCTIONS = {
    "vexp": (np.exp, 1.0),
    "vexp_low": (np.exp, 1.0),
    "vexpm1": (np.expm1, 1.5),
    "vlog": (np.log, 1.0),
    "vlog1p": (np.log1p, 1.5),
    "vtanh": (np.tanh, 1.5),
    "vsigmoid": (logistic, 3.0),
    "verf": (erf, 2.5),
}
RANGES = {"vexp_low": (-np.inf, 40), "vlog1p": (0, 1)}


def vectorised(name):
    function = getattr(_math, name)

    @njit
    def walk(x, y, n):
        for i in range(0, n - L + 1, L):
            vstore(y, i, function(vload(x, i)))
        vstore_n(y, n - n % L, function(vload_n(x, n - n % L, n % L)), n % L)

    def compute(x):
        y = np.empty_like(x)
        walk(x.ctypes.data, y.ctypes.data, x.size)
        return y
    return compute


def sample():
    """Bit patterns: every STRIDE-th, and all around the places where a formula changes."""
    spread = np.arange(0, 2**32, STRIDE, dtype=np.uint32)
    ends = np.float32([*EDGES, *np.negative(EDGES), 0, -0.0, np.inf, -np.inf]).view(np.uint32)
    near = (ends[:, None] + np.arange(-300, 300).astype(np.uint32)).ravel()
    return np.concatenate([spread, near]).view(np.float32)


def ulps(got, want):
    """|got - want| in units in the last place of want, an infinity counting as the first number too large."""
    got, want = (np.clip(x.astype(np.float64), -(2.0**128), 2.0**128) for x in (got, want))
    return np.abs(got - want) / np.spacing(np.minimum(np.abs(want), 2.0**127).astype(np.float32))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_within_its_bound_everywhere(name):
    exact, bound = FUNCTIONS[name]
    compute = vectorised(name)
    worst = 0.0
    points = sample()
    if name in RANGES:
        low, high = RANGES[name]
        points = points[(low <= points) & (points <= high)]
    for x in np.array_split(points, 16):
        with np.errstate(all="ignore"):
            got, want = compute(x), exact(x.astype(np.float64))
        number = ~np.isnan(want)
        assert np.array_equal(~np.isnan(got), number)
        worst = max(worst, ulps(got[number], want[number]).max(initial=0))
    assert 0.5 <= worst <= bound


@pytest.mark.parametrize(("name", "x", "y"), [
    ("vexp", [-np.inf, -200, 0, -0.0, 1e-45, 89, np.inf], [0, 0, 1, 1, 1, np.inf, np.inf]),
    ("vexp_low", [-np.inf, -200, 0, -0.0, 1e-45], [0, 0, 1, 1, 1]),
    ("vexpm1", [-np.inf, -200, 0, -0.0, 1e-45, -1e-45, 89, np.inf], [-1, -1, 0, -0.0, 1e-45, -1e-45, np.inf, np.inf]),
    ("vlog", [0, -0.0, 1, np.inf, -1, -np.inf, -1e-45], [-np.inf, -np.inf, 0, np.inf, np.nan, np.nan, np.nan]),
    ("vlog1p", [0, 1e-45, 1e-20], [0, 1e-45, 1e-20]),
    ("verf", [-np.inf, -50, 0, -0.0, -1e-44, 4, 50, np.inf], [-1, -1, 0, -0.0, -1.1e-44, 1, 1, 1]),
    ("vtanh", [-np.inf, -50, 0, -0.0, -1e-45, 50, np.inf], [-1, -1, 0, -0.0, -1e-45, 1, 1]),
    ("vsigmoid", [-np.inf, -200, 0, -0.0, 50, np.inf, 1e-45], [0, 0, 0.5, 0.5, 1, 1, 0.5]),
])
def test_exact_values(name, x, y):
    got, want = vectorised(name)(np.float32([*x, np.nan])), np.float32([*y, np.nan])
    assert np.array_equal(got, want, equal_nan=True)
    number = ~np.isnan(want)
    assert np.array_equal(np.signbit(got[number]), np.signbit(want[number]))


def test_results_below_the_normal_range_are_kept():
    x = np.float32([-90, -95, -100, -103])
    for name in ("vexp", "vexp_low"):
        got = vectorised(name)(x)
        assert (got > 0).all()
        assert (got < np.finfo(np.float32).tiny).all()
