import numpy as np
import pytest

from nnk.kernels.cpu._reduce import column_sums


@pytest.mark.parametrize("columns", [1, 3, 16, 37, 64, 100, 129, 2049])
@pytest.mark.parametrize("rows", [0, 1, 2, 33, 500])
def test_column_sums(rows, columns):
    x = np.random.default_rng(rows).standard_normal((rows, columns)).astype(np.float32)
    np.testing.assert_allclose(column_sums(x, columns), x.sum(axis=0, dtype=np.float64), rtol=1e-6, atol=1e-5)


def test_a_long_sum_keeps_its_digits():
    # One float32 accumulator would stop at 2**24.
    assert column_sums(np.ones((1 << 25, 1), np.float32), 1) == 1 << 25


def test_no_columns():
    assert column_sums(np.zeros((3, 0), np.float32), 0).shape == (0,)
