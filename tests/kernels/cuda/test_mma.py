"""Tensor cores and asynchronous copies, alone: one warp multiplies two small matrices."""

import numpy as np
import pytest

from nnk.kernels.cuda._numba import SIMULATED, cuda, types
from nnk.kernels.cuda.launch import F32, INT, STORAGE, kernel
from nnk.kernels.cuda.ptx_mma import (
    commit_copies,
    copy_async,
    load_matrices,
    load_matrices_transposed,
    products,
    round_tf32,
    wait_copies,
)

ml_dtypes = pytest.importorskip("ml_dtypes")
pytestmark = pytest.mark.skipif(not SIMULATED, reason="whole operations prove these on a GPU")

NONE = 0
DTYPES = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}


@kernel(block=32, name="probe_products", a=STORAGE, b=STORAGE, c=F32, wait=INT, rounded=INT)
def _products(a, b, c, wait, rounded):
    """c (16, 16) = a (16, 32 bytes) · b (16, 32 bytes)ᵀ."""
    shared = cuda.shared.array(256, types.uint32)
    sums = cuda.local.array((1, 2, 4), types.float32)
    left, right = cuda.local.array((1, 4), types.uint32), cuda.local.array((2, 2), types.uint32)
    lane = cuda.threadIdx.x
    row, half = lane // 2, lane % 2
    vector = 16 // a.memory.itemsize
    copy_async(shared, row * 8 + half * 4, a, (row * 2 + half) * vector, 16)
    copy_async(shared, 128 + row * 8 + half * 4, b, (row * 2 + half) * vector, 16 if row < 15 else 0)
    commit_copies()
    if wait:
        wait_copies(NONE)
    cuda.syncthreads()
    load_matrices(left, 0, shared, (lane & 15) * 8 + (lane >> 4) * 4)
    load_matrices(right, 0, shared, 128 + ((lane & 7) + (lane >> 4) * 8) * 8 + ((lane >> 3) & 1) * 4)
    for word in range(4):
        left[0, word] = round_tf32(left[0, word]) if rounded else left[0, word]
        sums[0, 0, word] = sums[0, 1, word] = 0
    products(sums, left, right, a)
    for block in range(2):
        for word in range(4):
            at = (lane // 4 + word // 2 * 8) * 16 + block * 8 + lane % 4 * 2 + word % 2
            c[at] = sums[0, block, word]


@kernel(block=32, name="probe_transposed", x=STORAGE, y=STORAGE)
def _transposed(x, y):
    """Four matrices of 8 × 8 numbers, each transposed."""
    shared = cuda.shared.array(128, types.uint32)
    words = cuda.local.array(4, types.uint32)
    lane = cuda.threadIdx.x
    copy_async(shared, lane * 4, x, lane * 8, 16)
    commit_copies()
    wait_copies(NONE)
    cuda.syncthreads()
    load_matrices_transposed(words, 0, shared, lane * 4)
    for number in range(4):
        y.vector(number * 64 + lane * 2, 4)[:] = words[number : number + 1].view(y.memory.dtype)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def matrices(rng, dtype):
    width = 32 // np.dtype(dtype).itemsize
    return rng.standard_normal((16, width)).astype(dtype), rng.standard_normal((16, width)).astype(dtype)


def tf32(x):
    """Rounded to 10 digits after the point, to the nearest; halves do not occur in random numbers."""
    fraction, exponent = np.frexp(x.astype(np.float64))
    return np.ldexp(np.round(np.ldexp(fraction, 11)), exponent - 11)


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_cuda_a_warp_multiplies_16_rows(rng, dtype):
    a, b = matrices(rng, dtype)
    if dtype == np.float32:
        b = tf32(b).astype(np.float32)
    c = np.full((16, 16), np.nan, np.float32)
    _products(1, a, b, c, 1, int(dtype == np.float32))
    left = tf32(a) if dtype == np.float32 else a.astype(np.float64)
    want = left @ b.astype(np.float64).T
    want[:, 15] = 0  # copies of no bytes are zeros
    np.testing.assert_allclose(c, want, atol=2e-6)


def test_cuda_float32_operands_lose_their_last_digits(rng):
    a, b = matrices(rng, np.float32)
    c = np.empty((16, 16), np.float32)
    _products(1, a, b, c, 1, 0)
    exact = a.astype(np.float64) @ b[:15].astype(np.float64).T
    error = np.abs(c[:, :15] - exact).max()
    assert 1e-4 < error < 16 * 8 * 2**-10


def test_cuda_a_copy_that_nobody_waits_for_is_nan(rng):
    a, b = matrices(rng, np.float16)
    c = np.empty((16, 16), np.float32)
    with np.errstate(invalid="ignore"):
        _products(1, a, b, c, 0, 0)
    assert np.isnan(c).all()


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16], ids=["float16", "bfloat16"])
def test_cuda_matrices_are_loaded_transposed(rng, dtype):
    x = rng.standard_normal((4, 8, 8)).astype(dtype)
    y = np.empty_like(x)
    _transposed(1, x, y)
    assert np.array_equal(y, x.swapaxes(1, 2))


def test_cuda_rounding_to_tf32_keeps_what_is_not_finite():
    inputs = np.array([1, 1 + 2**-11, 1 + 2**-11 - 2**-20, -1 - 2**-11, np.inf, -np.inf], np.float32)
    want = np.array([1, 1 + 2**-10, 1, -1 - 2**-10, np.inf, -np.inf], np.float32)
    words = np.array([round_tf32(word) for word in inputs.view(np.uint32)], np.uint32)
    assert np.array_equal((words & np.uint32(0xFFFFE000)).view(np.float32), want)
    assert round_tf32(0x7FFFFFFF) == 0x7FFFFFFF  # NaN as GPUs make it
