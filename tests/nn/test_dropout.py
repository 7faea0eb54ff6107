import numpy as np
import pytest

import nnk
from nnk import nn


def test_rate_scale_and_backward(reference):
    nnk.manual_seed(0)
    drop = nn.Dropout(0.3)
    x = np.ones((100, 100))
    y = drop(x)
    assert abs((y == 0).mean() - 0.3) < 0.02
    np.testing.assert_allclose(y[y != 0], 1 / 0.7)
    np.testing.assert_array_equal(drop.backward(np.full((100, 100), 2.0)), 2 * y)


def test_a_seed_repeats_and_calls_differ(reference):
    drop = nn.Dropout()
    x = np.ones(1000)
    nnk.manual_seed(5)
    first, second = drop(x), drop(x)
    nnk.manual_seed(5)
    np.testing.assert_array_equal(drop(x), first)
    assert (first != second).any()


def test_eval_passes(reference, rng):
    drop = nn.Dropout().eval()
    x = rng.standard_normal((3, 4))
    np.testing.assert_array_equal(drop(x), x)
    np.testing.assert_array_equal(drop.backward(x), x)


@pytest.mark.parametrize(("p", "expected"), [(0, 1.0), (1, 0.0), (0.0, 1.0)])
def test_extremes(reference, p, expected):
    drop = nn.Dropout(p)
    np.testing.assert_array_equal(drop(np.ones((2, 3))), np.full((2, 3), expected))
    np.testing.assert_array_equal(drop.backward(np.ones((2, 3))), np.full((2, 3), expected))


@pytest.mark.parametrize("p", [-0.1, 1.5, float("nan")])
def test_bad_p(p):
    with pytest.raises(ValueError, match="expected 0 <= p <= 1"):
        nn.Dropout(p)


def test_gradcheck(rng):
    assert nnk.testing.gradcheck(nn.Dropout(0.4), rng.standard_normal((5, 6)))


@pytest.mark.parametrize("shape", [(40, 50, 2, 3), (40, 50, 4)])
def test_whole_channels(reference, shape):
    nnk.manual_seed(0)
    drop = nn.Dropout2d(0.3)
    y = drop(np.ones(shape))
    channels = y.reshape(40, 50, -1)
    assert (channels == channels[:, :, :1]).all()
    assert abs((channels == 0).mean() - 0.3) < 0.03
    np.testing.assert_allclose(y[y != 0], 1 / 0.7)
    np.testing.assert_array_equal(drop.backward(np.full(shape, 2.0)), 2 * y)
    np.testing.assert_array_equal(drop.eval()(np.ones(shape)), np.ones(shape))


def test_whole_channels_are_the_same_on_the_cpu(rng):
    x = rng.standard_normal((5, 7, 3, 2)).astype(np.float32)
    nnk.manual_seed(3)
    y = nn.Dropout2d()(x)
    nnk.manual_seed(3)
    with nnk.use_backend("reference"):
        np.testing.assert_array_equal(nn.Dropout2d()(x), y)


def test_channels_of_what():
    with pytest.raises(ValueError, match=r"shape \(3, 4\), expected \(N, C, H, W\) or \(N, C, L\)"):
        nn.Dropout2d()(np.ones((3, 4), np.float32))
