"""Large results written past the caches."""

import numpy as np
import pytest

from nnk.kernels.cpu import _stream, activation, elementwise
from nnk.kernels.cpu._memory import empty
from nnk.kernels.cpu._stream import streams
from nnk.kernels.cpu.simd import L


def test_only_large_aligned_arrays_of_whole_vectors():
    large = empty((_stream._CACHE // 4 + L,))
    assert streams(large)
    assert not streams(large[:-1])
    assert not streams(large[1:-L + 1])
    assert not streams(large[:L])
    assert not streams(large, width=L + 1)


@pytest.mark.parametrize("size", [L, 3 * L, 5000 * L, 4096 * 3 + 1])
def test_past_the_caches_or_not_the_numbers_are_the_same(size, monkeypatch):
    rng = np.random.default_rng(0)
    x, dy = (rng.standard_normal(size, np.float32) for _ in range(2))

    def results():
        y = activation.relu(x)
        return y, activation.relu_backward(dy, y), elementwise.add(x, dy)

    want = results()
    monkeypatch.setattr(_stream, "_CACHE", 0)
    assert streams(empty((size,))) is (size % L == 0)
    for got, expected in zip(results(), want):
        assert np.array_equal(got, expected)
    assert np.array_equal(want[2], x + dy)
