import numpy as np
import pytest

import nnk
from nnk import nn

OPTIONS = [
    {},
    {"eps": 1e-2},
    {"affine": True},
    {"affine": True, "bias": False},
    {"track_running_stats": True},
    {"track_running_stats": True, "momentum": 0.3, "affine": True},
    {"track_running_stats": True, "momentum": None},
]


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("shape", [(4, 3, 5, 6), (1, 3, 5, 6), (3, 5, 6), (2, 3, 1, 2)])
def test_as_in_torch(same_as_torch, rng, shape, options, mode):
    same_as_torch("InstanceNorm2d", (3,), options, rng.standard_normal(shape) * 2 + 1, mode=mode, forwards=3)


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("shape", [(0, 3, 5, 6), (2, 3, 0, 6), (3, 0, 6)])
def test_an_empty_batch_as_in_torch(same_as_torch, shape, mode):
    same_as_torch("InstanceNorm2d", (3,), {}, np.zeros(shape), mode=mode)


def test_an_empty_batch_leaves_the_statistics_alone(reference):
    norm = nn.InstanceNorm2d(3, affine=True, track_running_stats=True).double()
    for shape in ((0, 3, 5, 6), (2, 3, 0, 6)):
        assert norm(np.zeros(shape)).shape == norm.backward(np.zeros(shape)).shape == shape
    np.testing.assert_array_equal(norm.running_mean, np.zeros(3))
    np.testing.assert_array_equal(norm.running_var, np.ones(3))


@pytest.mark.parametrize("mode", [True, False])
def test_gradcheck(rng, mode):
    norm = nn.InstanceNorm2d(3, affine=True, track_running_stats=True).train(mode)
    norm.running_mean[...] = rng.standard_normal(3)
    assert nnk.testing.gradcheck(norm, rng.standard_normal((2, 3, 3, 2)))


def test_statistics_in_eval_are_those_of_the_forward(reference, rng):
    norm = nn.InstanceNorm2d(3, track_running_stats=True).double().eval()
    norm(rng.standard_normal((2, 3, 2, 2)))
    norm.running_var[...] = 9.0
    np.testing.assert_allclose(norm.backward(np.ones((2, 3, 2, 2))), np.full((2, 3, 2, 2), 1 / np.sqrt(1 + 1e-5)))


def test_one_value_per_channel(reference):
    for shape in ((2, 3, 1, 1), (3, 1, 1)):
        for norm in (nn.InstanceNorm2d(3).double().eval(), nn.InstanceNorm2d(3, track_running_stats=True).double()):
            with pytest.raises(ValueError, match="one value per channel, expected more than one position"):
                norm(np.zeros(shape))
        assert nn.InstanceNorm2d(3, track_running_stats=True).double().eval()(np.zeros(shape)).shape == shape


def test_a_rejected_input_changes_nothing(reference):
    norm = nn.InstanceNorm2d(3, track_running_stats=True).double()
    with pytest.raises(ValueError, match="expected more than one"):
        norm(np.ones((1, 3, 1, 1)))
    assert not norm.running_mean.any()


@pytest.mark.parametrize("shape", [(2, 4, 3, 3), (2, 3), (4, 3, 3), (1, 2, 3, 4, 5)])
def test_wrong_rank_or_channels(reference, shape):
    with pytest.raises(ValueError, match=r"InstanceNorm2d: .*, expected \(N, 3, H, W\) or \(3, H, W\)"):
        nn.InstanceNorm2d(3).double()(np.zeros(shape))


def test_reset(reference, rng):
    norm = nn.InstanceNorm2d(3, affine=True, track_running_stats=True).double()
    norm(rng.standard_normal((2, 3, 4, 4)))
    norm.weight.data[...] = 5
    norm.reset_parameters()
    np.testing.assert_array_equal(norm.running_mean, np.zeros(3))
    np.testing.assert_array_equal(norm.running_var, np.ones(3))
    np.testing.assert_array_equal(norm.weight.data, np.ones(3))


def test_an_unbatched_image_is_channels_last_memory(rng):
    y = nn.InstanceNorm2d(3)(rng.standard_normal((3, 4, 5)).astype(np.float32))
    assert y.transpose(1, 2, 0).flags.c_contiguous
