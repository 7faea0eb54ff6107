"""Convolutions on tensor cores: every tile and type on awkward shapes; which card gives which precision."""

import numpy as np
import pytest

from nnk.kernels import parity
from nnk.kernels.cases.conv2d import _case
from nnk.kernels.cuda import _arithmetic, _mma_gemm, _mma_wgrad
from nnk.kernels.cuda._numba import SIMULATED
from nnk.kernels.ops import OPS

ml_dtypes = pytest.importorskip("ml_dtypes")
simulated = pytest.mark.skipif(not SIMULATED, reason="changes what the simulator is")
(SUITE,) = (op.suite for op in OPS if op.name == "conv2d")
DTYPES = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
CASES = {
    "odd": _case("odd", (2, 9, 7, 5), (11, 9, 3, 3), padding=(1, 1), precision="high", infer=True),
    "strided": _case("strided", (1, 20, 9, 8), (10, 20, 3, 2), stride=(2, 3), padding=(1, 2), precision="high"),
    "dilated": _case("dilated", (1, 3, 11, 9), (5, 3, 3, 3), padding=(2, 1), dilation=(2, 3), precision="high"),
    "grouped": _case("grouped", (2, 24, 5, 4), (6, 12, 3, 3), padding=(1, 1), groups=2, precision="high"),
    "one_channel": _case("one_channel", (1, 1, 9, 10), (1, 1, 3, 3), padding=(1, 1), precision="high"),
    "many_filters": _case("many_filters", (1, 72, 5, 7), (76, 72, 1, 1), precision="high"),
}


def worst(case, dtype, kernels):
    with np.errstate(all="ignore"):
        return max(parity.compare(SUITE, case, kernels, dtype).values())


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16], ids=["float16", "bfloat16"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_cuda_16_bit_convolutions(case, dtype, cuda_kernels):
    assert worst(case, dtype, cuda_kernels) <= 1


@simulated
@pytest.mark.parametrize(("name", "dtype"), [
    ("odd", "float32"), ("many_filters", "float32"), ("many_filters", "bfloat16")
])  # fmt: skip
def test_cuda_large_tiles(name, dtype, cuda_kernels, monkeypatch):
    monkeypatch.setattr(_mma_gemm, "ENOUGH_BLOCKS", 0)
    assert worst(CASES[name], DTYPES[dtype], cuda_kernels) <= 1


@simulated
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_cuda_pixels_in_shares(dtype, cuda_kernels, monkeypatch):
    monkeypatch.setattr(_mma_wgrad, "LEAST_SHARE", 20)
    assert worst(CASES["odd"], dtype, cuda_kernels) <= 1


@simulated
@pytest.mark.parametrize("name", ["odd", "strided"])
def test_cuda_float16_before_asynchronous_copies(name, cuda_kernels, monkeypatch):
    monkeypatch.setattr(_arithmetic, "SIMULATED_CAPABILITY", (7, 5))
    assert worst(CASES[name], np.float16, cuda_kernels) <= 1


@simulated
@pytest.mark.parametrize("name", ["odd", "grouped"])
def test_cuda_threads_of_tensor_core_kernels_in_reverse(name, cuda_kernels, monkeypatch):
    import cuda_simulator

    monkeypatch.setattr(cuda_simulator.order, "backward", True)
    assert worst(CASES[name], np.float32, cuda_kernels) <= 1


@simulated
def test_cuda_a_card_without_tf32_computes_in_float32(cuda_kernels, monkeypatch):
    x, weight = (CASES["odd"].make(np.random.default_rng(0))[name].astype(np.float32) for name in ("x", "weight"))
    high = cuda_kernels.conv2d(x, weight, precision="high")
    strict = cuda_kernels.conv2d(x, weight)
    assert not np.array_equal(high, strict)
    monkeypatch.setattr(_arithmetic, "SIMULATED_CAPABILITY", (7, 5))
    assert np.array_equal(cuda_kernels.conv2d(x, weight, precision="high"), strict)


@pytest.mark.parametrize(("dtype", "precision", "capability", "want"), [
    ("float32", "highest", (9, 0), None), ("float32", "high", (8, 0), "float32"), ("float32", "high", (7, 5), None),
    ("float32", "medium", (8, 6), "bfloat16"), ("float32", "medium", (7, 5), None),
    ("float16", "highest", (7, 5), "float16"), ("bfloat16", "highest", (8, 0), "bfloat16"),
])  # fmt: skip
def test_cuda_factors_of_products(dtype, precision, capability, want):
    got = _arithmetic.factors(np.dtype(DTYPES[dtype]), precision, capability)
    assert (got if got is None else np.dtype(got).name) == want
