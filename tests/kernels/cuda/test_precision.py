"""How far convolutions on a GPU are from float64 in each precision: what `nnk.set_precision` promises."""

import numpy as np
import pytest

from nnk.kernels import reference
from nnk.kernels.cuda import _arithmetic
from nnk.kernels.cuda._numba import SIMULATED

# The most by which a result is off, of the sum of the products' absolute values: rounding takes 2⁻¹¹ of each factor as
# TF32 and 2⁻⁸ as bfloat16; sums in float32 take the rest.
BOUNDS = {"highest": 1e-6, "high": 2**-10 + 1e-6, "medium": 2**-7 + 2e-5}

# Images, channels, filters, size: long sums over channels, over pixels, and maps that no tile fits.
SHAPES = [(1, 40, 24, 5), (3, 8, 12, 7)] if SIMULATED else [(64, 16, 16, 32), (4, 64, 64, 33), (8, 512, 512, 7)]

INPUTS = {
    "centred": lambda rng, shape: rng.standard_normal(shape),
    "rectified": lambda rng, shape: np.maximum(rng.standard_normal(shape), 0),
    "rectified, large mean": lambda rng, shape: np.maximum(rng.standard_normal(shape) + 20, 0),
}


@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("precision", BOUNDS)
def test_cuda_error_of_convolutions(precision, shape, kind, cuda_kernels):
    if precision != "highest" and _arithmetic.capability() < (8, 0):
        pytest.skip("a card without TF32 computes in float32")
    rng = np.random.default_rng(3)
    n, c, k, size = shape
    x = INPUTS[kind](rng, (n, c, size, size)).astype(np.float32)
    weight = (rng.standard_normal((k, c, 3, 3)) / np.sqrt(9 * c)).astype(np.float32)
    dy = rng.standard_normal((n, k, size, size)).astype(np.float32)
    results = {
        "forward": lambda m, x, w, dy, **more: m.conv2d(x, w, padding=(1, 1), **more),
        "dgrad": lambda m, x, w, dy, **more: m.conv2d_dgrad(dy, w, x.shape, padding=(1, 1), **more),
        "wgrad": lambda m, x, w, dy, **more: m.conv2d_wgrad(dy, x, w.shape, padding=(1, 1), **more),
    }
    arrays = x, weight, dy
    doubles = [a.astype(np.float64) for a in arrays]
    for name, function in results.items():
        got = np.asarray(function(cuda_kernels, *arrays, precision=precision), np.float64)
        most = function(reference, *map(np.abs, doubles))
        off = np.max(np.abs(got - function(reference, *doubles)) / most)
        assert off < BOUNDS[precision], f"{name}: {off:.1e}"
        assert precision == "highest" or off > BOUNDS["highest"], f"{name} is exact: {off:.1e}"
