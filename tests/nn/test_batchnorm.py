import numpy as np
import pytest

import nnk
from nnk import nn

OPTIONS = [
    {},
    {"momentum": 0.3, "eps": 1e-2},
    {"momentum": None},
    {"momentum": -0.1},
    {"affine": False},
    {"bias": False},
    {"track_running_stats": False},
    {"affine": False, "track_running_stats": False},
]


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize(
    ("name", "shape"), [("BatchNorm2d", (4, 3, 5, 6)), ("BatchNorm1d", (7, 3)), ("BatchNorm1d", (4, 3, 5))]
)
def test_as_in_torch(same_as_torch, rng, name, shape, options, mode):
    same_as_torch(name, (3,), options, rng.standard_normal(shape) * 2 + 1, mode=mode, forwards=3)


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize(
    ("name", "shape"), [("BatchNorm2d", (0, 3, 5, 6)), ("BatchNorm1d", (0, 3)), ("BatchNorm1d", (2, 3, 0))]
)
def test_an_empty_batch_as_in_torch(same_as_torch, name, shape, mode):
    same_as_torch(name, (3,), {}, np.zeros(shape), mode=mode)


@pytest.mark.parametrize("mode", [True, False])
def test_gradcheck(rng, mode):
    norm = nn.BatchNorm2d(3).train(mode)
    norm.running_mean[...] = rng.standard_normal(3)
    assert nnk.testing.gradcheck(norm, rng.standard_normal((4, 3, 3, 2)))


def test_statistics_in_eval_are_those_of_the_forward(reference, rng):
    norm = nn.BatchNorm1d(3).double().eval()
    x = rng.standard_normal((5, 3))
    norm(x)
    norm.running_var[...] = 9.0
    np.testing.assert_allclose(norm.backward(np.ones((5, 3))), np.full((5, 3), 1 / np.sqrt(1 + 1e-5)))


def test_one_value_per_channel_in_training(reference):
    with pytest.raises(ValueError, match="expected more than one in training"):
        nn.BatchNorm2d(3).double()(np.zeros((1, 3, 1, 1)))
    assert nn.BatchNorm2d(3).double().eval()(np.zeros((1, 3, 1, 1))).shape == (1, 3, 1, 1)


def test_eps_must_be_positive_in_training(reference):
    with pytest.raises(ValueError, match="eps is 0"):
        nn.BatchNorm1d(3, eps=0).double()(np.zeros((2, 3)))
    assert nn.BatchNorm1d(3, eps=0).double().eval()(np.ones((2, 3))).all()
    with pytest.raises(ValueError, match=r"eps is -1\.0, expected at least 0"):
        nn.BatchNorm1d(3, eps=-1.0).double().eval()(np.zeros((2, 3)))


@pytest.mark.parametrize("shape", [(2, 4, 3, 3), (2, 3), (3,), (2, 3, 4)])
def test_wrong_rank_or_channels_2d(reference, shape):
    with pytest.raises(ValueError, match=r"BatchNorm2d: the input has shape .*, expected \(N, 3, H, W\)"):
        nn.BatchNorm2d(3).double()(np.zeros(shape))


@pytest.mark.parametrize("shape", [(2, 4), (3,), (2, 4, 5), (2, 3, 4, 5)])
def test_wrong_rank_or_channels_1d(reference, shape):
    with pytest.raises(ValueError, match=r"expected \(N, 3\) or \(N, 3, L\)"):
        nn.BatchNorm1d(3).double()(np.zeros(shape))


def test_a_rejected_input_changes_nothing(reference):
    norm = nn.BatchNorm2d(3).double()
    with pytest.raises(ValueError, match="expected more than one"):
        norm(np.zeros((1, 3, 1, 1)))
    assert norm.num_batches_tracked == 0


def test_reset(reference, rng):
    norm = nn.BatchNorm1d(3).double()
    norm(rng.standard_normal((4, 3)))
    norm.weight.data[...] = 5
    norm.reset_parameters()
    assert norm.num_batches_tracked == 0
    np.testing.assert_array_equal(norm.running_mean, np.zeros(3))
    np.testing.assert_array_equal(norm.running_var, np.ones(3))
    np.testing.assert_array_equal(norm.weight.data, np.ones(3))
