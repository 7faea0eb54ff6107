import numpy as np
import pytest

from nnk.kernels import cpu
from nnk.kernels.cpu import _driver

threadpoolctl = pytest.importorskip("threadpoolctl")


def test_blas_uses_as_many_threads_as_the_kernels():
    x = np.ones((4, 3), np.float32)
    before = _driver.get_num_threads()
    try:
        for n in (1, 2, 1):
            _driver.set_num_threads(n)
            cpu.linear(x, x)
            counts = [pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
            assert counts
            assert all(count == _driver.get_num_threads() for count in counts)
    finally:
        _driver.set_num_threads(before)
