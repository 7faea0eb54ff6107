import numpy as np
import pytest

import nnk
from nnk import nn

NAMES = ("Softmax", "LogSoftmax")
each_name = pytest.mark.parametrize("name", NAMES)
INF, NAN = np.inf, np.nan


@pytest.mark.parametrize(("shape", "dims"), [
    ((), (None, 0, -1)),
    ((5,), (None, 0, -1)),
    ((2, 3), (None, 0, 1, -1, -2)),
    ((2, 3, 4), (None, 0, 1, 2, -1)),
    ((2, 3, 4, 5), (None, 0, 1, 2, 3, -2)),
    ((0, 3), (None, 0, 1)),
    ((2, 1, 2, 1, 3), (None, 4)),
])
@pytest.mark.filterwarnings("ignore:Implicit dimension choice")
@each_name
def test_as_in_torch(same_as_torch, rng, name, shape, dims):
    for dim in dims:
        same_as_torch(name, (dim,), {}, np.asarray(rng.standard_normal(shape)))


ROWS = [
    [0.0, -0.0, 1e-300],
    [1e4, -1e4, 9999.0],
    [1e30, -1e30, 1e30],
    [-INF, 1.0, -INF],
    [-INF, -INF, -INF],
    [INF, 1.0, 2.0],
    [NAN, 1.0, 2.0],
]


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("row", ROWS)
@each_name
def test_far_out_as_in_torch(same_as_torch, name, row):
    same_as_torch(name, (0,), {}, np.array(row))


@pytest.mark.parametrize(("row", "p"), [
    ([0, 0], [0.5, 0.5]),
    ([1e4, -1e4], [1, 0]),
    ([3e38, -3e38], [1, 0]),
    ([-INF, 1], [0, 1]),
    ([-INF, -INF], [NAN, NAN]),
    ([INF, 1], [NAN, NAN]),
    ([NAN, 1], [NAN, NAN]),
])
def test_value_by_value_in_float32(row, p):
    for repeats in (1, 40):
        x = np.repeat(np.float32(row), repeats)
        expected = np.repeat(np.float32(p), repeats) / repeats
        np.testing.assert_allclose(nn.Softmax(0)(x), expected, rtol=1e-6)
        module = nn.LogSoftmax(0)
        y = module(x)
        finite = np.isfinite(np.float32(row)) & (np.float32(p) > 0)
        keep = np.repeat(finite, repeats)
        np.testing.assert_allclose(y[keep], np.log(expected[keep]), rtol=1e-6)


def test_the_logarithm_keeps_what_softmax_rounds_to_0():
    y = nn.LogSoftmax(0)(np.float32([0, -200, -1e4]))
    np.testing.assert_array_equal(y, [0, -200, -1e4])


def test_temperature(reference, rng):
    x = rng.standard_normal((3, 5))
    for temperature in (0.1, 2.0):
        e = np.exp(x / temperature)
        module = nn.Softmax(1, temperature=temperature)
        np.testing.assert_allclose(module(x), e / e.sum(axis=1, keepdims=True), rtol=1e-12)
        assert f"temperature={temperature}" in repr(module)
    for temperature in (0, -1, NAN):
        with pytest.raises(ValueError, match="expected more than 0"):
            nn.Softmax(1, temperature=temperature)


@pytest.mark.parametrize("module", [nn.Softmax(), nn.Softmax(0, temperature=0.7), nn.LogSoftmax(-1)], ids=repr)
@pytest.mark.parametrize("shape", [(3, 4), (2, 4, 3, 2)])
def test_gradcheck(rng, module, shape):
    assert nnk.testing.gradcheck(module, rng.standard_normal(shape))


@pytest.mark.parametrize(("shape", "dim"), [((), 1), ((3,), 1), ((2, 3), -3), ((2, 3), 2)])
@each_name
def test_an_axis_that_is_not_there(name, shape, dim):
    with pytest.raises(ValueError, match=f"no axis {dim}"):
        getattr(nn, name)(dim)(np.zeros(shape, np.float32))


@each_name
def test_channels_of_images_stay_last_in_memory(name):
    module = getattr(nn, name)(1)
    x = np.zeros((2, 4, 5, 3), np.float32).transpose(0, 3, 1, 2)
    y = module(x)
    assert y.strides == x.strides
    assert module.backward(np.ones_like(x)).strides == x.strides
