"""Noise on images: normally distributed, and a matter of seed, call, stream and sample alone."""

import importlib

import numpy as np
import pytest

from nnk.kernels import cpu
from nnk.kernels.reference._philox import normals

module = importlib.import_module("nnk.kernels.cpu.image_noise")
DRAW = {"seed": 3, "call": 1, "stream": 0}


def noise(samples, shape=(3, 5, 7), **draw):
    x = np.zeros((len(samples), *shape), np.float32)
    return cpu.image_noise(x, np.ones(len(x), np.float32), np.array(samples), **(DRAW | draw))


def test_it_is_normally_distributed():
    z = noise(range(20), (4, 100, 100)).astype(np.float64).ravel()
    n = z.size
    assert abs(z.mean()) < 4 / n**0.5
    assert abs(z.var() - 1) < 4 * (2 / n) ** 0.5
    assert abs((z**3).mean()) < 4 * (15 / n) ** 0.5
    assert abs((z**4).mean() - 3) < 4 * (96 / n) ** 0.5
    for edge, share in ((0.0, 0.5), (1.0, 0.841345), (2.0, 0.977250), (3.0, 0.998650)):
        assert abs((z < edge).mean() - share) < 4 * (share * (1 - share) / n) ** 0.5
    # Neighbours, and the two numbers that share a radius, know nothing of each other.
    for distance in (1, 16, 48, 64):
        assert abs((z[distance:] * z[:-distance]).mean()) < 4 / n**0.5


def test_the_same_sample_gets_the_same_noise_in_any_batch():
    batch = noise([4, 9, 2**32 - 1, 0])
    for place, sample in enumerate((4, 9, 2**32 - 1, 0)):
        np.testing.assert_array_equal(noise([sample])[0], batch[place])


@pytest.mark.parametrize("other", [{"seed": 3 + 2**40}, {"call": 2}, {"stream": 1}, {"seed": 4}])
def test_everything_else_changes_it(other):
    assert not np.isclose(noise([1, 2]), noise([1, 2], **other)).all(axis=(1, 2, 3)).any()
    assert not np.array_equal(*noise([1, 2]))


@pytest.mark.parametrize("threads", [2, 3, 7])
def test_any_number_of_threads_gives_the_same_noise(threads, monkeypatch):
    monkeypatch.setattr(module, "share", lambda work: 1)
    alone = noise(range(9))
    monkeypatch.setattr(module, "share", lambda work: threads)
    np.testing.assert_array_equal(noise(range(9)), alone)


def test_the_ends_of_the_words_are_finite():
    words = np.array([0, 0xFFFFFFFF], np.uint32)
    z = normals(np.stack(np.meshgrid(words, words, words, words), -1))
    assert np.isfinite(z).all()
    np.testing.assert_allclose(np.hypot(z[..., 0], z[..., 1]).max(), np.sqrt(48 * np.log(2)))
