import sys

import numpy as np
import pytest

from nnk.kernels import cpu, reference
from nnk.kernels.cpu import _driver


@pytest.fixture
def two_threads():
    before = _driver.get_num_threads()
    _driver.set_num_threads(min(2, before))
    yield
    _driver.set_num_threads(before)


def test_blas_keeps_to_one_thread():
    threadpoolctl = pytest.importorskip("threadpoolctl")
    x = np.ones((4, 3), np.float32)
    cpu.linear(x, x)
    counts = [pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
    assert counts
    assert set(counts) == {1}


# Large enough to be shared: few rows, more rows, dimensions that fill no vector.
@pytest.mark.parametrize("shape", [(16, 700, 768), (64, 512, 300), (130, 257, 259)], ids=str)
@pytest.mark.parametrize("transposed", [False, True])
def test_large_products(shape, transposed, two_threads):
    rows, inputs, outputs = shape
    rng = np.random.default_rng(0)

    def normal(*shape):
        x = rng.standard_normal(shape[::-1] if transposed else shape).astype(np.float32)
        return x.T if transposed else x

    x, weight, dy, bias = normal(rows, inputs), normal(outputs, inputs), normal(rows, outputs), normal(outputs)

    def results(k, x, weight, dy, bias):
        return k.linear(x, weight, bias), k.linear_dgrad(dy, weight), k.linear_wgrad(dy, x)

    want = results(reference, *(array.astype(np.float64) for array in (x, weight, dy, bias)))
    outs = [np.full(array.shape, np.nan, np.float32) for array in want]
    got = results(cpu, x, weight, dy, bias)
    for ours, theirs, name, out, arguments in zip(
        got, want, ("linear", "linear_dgrad", "linear_wgrad"), outs, ((x, weight, bias), (dy, weight), (dy, x))
    ):
        error = np.sqrt(np.mean((ours - theirs) ** 2) / np.mean(theirs**2))
        assert error < 1e-6, name
        assert ours.flags.c_contiguous
        assert getattr(cpu, name)(*arguments, out=out) is out
        np.testing.assert_array_equal(out, ours)


def test_large_products_use_all_threads(two_threads, monkeypatch):
    if _driver.get_num_threads() < 2:
        pytest.skip("one core")
    assert cpu.linear  # imports its file
    monkeypatch.setattr(sys.modules["nnk.kernels.cpu.linear"], "_product", None)
    x = np.ones((64, 512), np.float32)
    assert cpu.linear(x, np.ones((300, 512), np.float32))[0, 0] == 512
    _driver.set_num_threads(1)
    with pytest.raises(TypeError):
        cpu.linear(x, np.ones((300, 512), np.float32))
