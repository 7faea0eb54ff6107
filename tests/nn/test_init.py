import math

import numpy as np
import pytest

import nnk
from nnk import nn
from nnk.nn import init


@pytest.mark.parametrize(
    ("fill", "bound"),
    [
        (lambda t: init.uniform_(t, -2.0, 2.0), 2.0),
        (lambda t: init.kaiming_uniform_(t, nonlinearity="relu"), math.sqrt(6 / (20 * 9))),
        (lambda t: init.kaiming_uniform_(t, a=math.sqrt(5), mode="fan_out"), math.sqrt(1 / (30 * 9))),
        (lambda t: init.xavier_uniform_(t, gain=2.0), 2 * math.sqrt(6 / (50 * 9))),
    ],
)
def test_uniform(fill, bound):
    nnk.manual_seed(1)
    array = fill(np.zeros((30, 20, 3, 3), np.float32))
    assert np.abs(array).max() <= bound
    assert abs(array.std() / (bound / math.sqrt(3)) - 1) < 0.02
    assert abs(array.mean()) < bound / 30


@pytest.mark.parametrize(
    ("fill", "std"),
    [
        (lambda t: init.normal_(t, 0.0, 3.0), 3.0),
        (lambda t: init.kaiming_normal_(t, nonlinearity="relu"), math.sqrt(2 / (20 * 9))),
        (lambda t: init.xavier_normal_(t), math.sqrt(2 / (50 * 9))),
    ],
)
def test_normal(fill, std):
    nnk.manual_seed(1)
    array = fill(np.zeros((30, 20, 3, 3), np.float32))
    assert abs(array.std() / std - 1) < 0.05
    assert abs(array.mean()) < std / 20


def test_constants_fill_parameters_and_arrays_in_place():
    parameter = nn.Parameter(np.zeros(3, np.float32))
    assert init.ones_(parameter) is parameter
    assert (parameter.data == 1).all()
    assert (init.constant_(parameter, 4.5).data == 4.5).all()
    array = np.ones(3)
    assert init.zeros_(array) is array
    assert (array == 0).all()


def test_gains_as_in_torch():
    torch_init = pytest.importorskip("torch").nn.init
    for name in ["linear", "conv2d", "conv_transpose3d", "sigmoid", "tanh", "relu", "leaky_relu", "selu"]:
        assert init.calculate_gain(name) == torch_init.calculate_gain(name)
    assert init.calculate_gain("leaky_relu", 0.3) == torch_init.calculate_gain("leaky_relu", 0.3)


def test_default_bounds_as_in_torch():
    torch = pytest.importorskip("torch")
    for name, args in [("Linear", (50, 400)), ("Conv2d", (8, 200, 3))]:
        ours = getattr(nn, name)(*args).state_dict()
        theirs = getattr(torch.nn, name)(*args).state_dict()
        for key in ours:
            largest = float(theirs[key].abs().max())
            assert abs(np.abs(ours[key]).max() / largest - 1) < 0.05, key


def test_a_seed_repeats_in_every_dtype():
    nnk.manual_seed(7)
    first = nn.Linear(5, 4)
    nnk.manual_seed(7)
    second = nn.Linear(5, 4, dtype=np.float64)
    np.testing.assert_array_equal(first.weight.data, second.weight.data.astype(np.float32))
    generator = np.random.default_rng(0)
    third = init.uniform_(np.zeros(3), generator=generator)
    np.testing.assert_array_equal(third, np.random.default_rng(0).uniform(0, 1, 3))


def test_bad_arguments():
    with pytest.raises(ValueError, match="mode is 'fan'"):
        init.kaiming_uniform_(np.zeros((2, 2)), mode="fan")
    with pytest.raises(ValueError, match="nonlinearity is 'swish'"):
        init.kaiming_normal_(np.zeros((2, 2)), nonlinearity="swish")
    with pytest.raises(ValueError, match=r"tensor has shape \(2,\)"):
        init.xavier_uniform_(np.zeros(2))
