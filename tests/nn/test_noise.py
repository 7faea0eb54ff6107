import numpy as np
import pytest

import nnk
from nnk import nn


@pytest.mark.parametrize("shape", [(30, 3, 8, 9), (7, 1001), (9001,), (1, 1, 1, 1), ()])
def test_noise_is_normal_and_drawn_anew(shape):
    nnk.manual_seed(0)
    noise, x = nn.GaussianNoise(0.5), np.full(shape, 2, np.float32)
    first, second = noise(x) - x, noise(x) - x
    assert first.shape == shape
    assert (first != second).any()
    if first.size > 5000:
        assert abs(first.mean()) < 0.03
        assert abs(first.std() - 0.5) < 0.02
        assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.05
    np.testing.assert_array_equal(noise.backward(x), x)
    np.testing.assert_array_equal(noise.eval()(x), x)


def test_the_same_on_every_backend(rng):
    x = rng.standard_normal((4, 3, 5, 6)).astype(np.float32)
    nnk.manual_seed(3)
    y = nn.GaussianNoise(1)(x)
    nnk.manual_seed(3)
    with nnk.use_backend("reference"):
        np.testing.assert_allclose(nn.GaussianNoise(1)(np.asfortranarray(x)), y, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("std", [-1, float("nan"), float("inf")])
def test_bad_std(std):
    with pytest.raises(ValueError, match="expected a finite number >= 0"):
        nn.GaussianNoise(std)
