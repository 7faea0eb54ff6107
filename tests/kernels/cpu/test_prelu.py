"""PReLU writes large results past the caches: the same bits."""

import numpy as np
import pytest

from nnk.kernels.cpu import _stream
from nnk.kernels.cpu.prelu import prelu, prelu_backward


@pytest.mark.parametrize("slopes", [1, 32])
def test_results_past_the_caches_have_the_same_bits(slopes, monkeypatch):
    rng = np.random.default_rng(0)
    shape = (8, 32, 8, 8)
    x, dy = (rng.standard_normal(shape).astype(np.float32) for _ in range(2))
    weight = rng.uniform(0, 1, slopes).astype(np.float32)

    def run():
        return prelu(x, weight), *prelu_backward(dy, x, weight)

    inside = run()
    assert not _stream.streams(inside[0])
    monkeypatch.setattr(_stream, "_CACHE", 0)
    assert _stream.streams(inside[0])
    for cached, streamed in zip(inside, run()):
        np.testing.assert_array_equal(cached, streamed)
