import numpy as np
import pytest

import nnk
from nnk import nn


@pytest.mark.parametrize("options", [{}, {"eps": 1e-2}, {"affine": False}, {"bias": False}], ids=str)
@pytest.mark.parametrize(
    ("groups", "shape"),
    [
        (2, (4, 6, 5, 3)),
        (6, (4, 6, 5, 3)),
        (1, (1, 6, 5, 3)),
        (3, (4, 6)),
        (3, (4, 6, 7)),
        (2, (2, 6, 2, 3, 2)),
        (6, (2, 6, 1, 1)),
        (2, (1, 6, 1, 1)),
        (1, (1, 1, 3, 3)),
        (2, (0, 6, 5, 3)),
    ],
)
def test_group_norm_as_in_torch(same_as_torch, rng, groups, shape, options):
    for mode in ("train", "eval"):
        same_as_torch("GroupNorm", (groups, shape[1]), options, rng.standard_normal(shape) * 2 + 1, mode=mode)


@pytest.mark.parametrize(
    "options", [{}, {"eps": 1e-2}, {"elementwise_affine": False}, {"bias": False}], ids=str
)
@pytest.mark.parametrize(
    ("normalized", "shape"),
    [
        (6, (4, 6)),
        (6, (6,)),
        ((6,), (2, 3, 5, 6)),
        ([5, 6], (2, 3, 5, 6)),
        ((3, 5, 6), (2, 3, 5, 6)),
        ((2, 3, 5, 6), (2, 3, 5, 6)),
        (1, (4, 1)),
        (6, (0, 6)),
    ],
)
def test_layer_norm_as_in_torch(same_as_torch, rng, normalized, shape, options):
    for mode in ("train", "eval"):
        same_as_torch("LayerNorm", (normalized,), options, rng.standard_normal(shape) * 2 + 1, mode=mode)


@pytest.mark.parametrize(
    ("norm", "shape"),
    [
        (nn.GroupNorm(2, 6), (2, 6, 3, 4)),
        (nn.GroupNorm(3, 6, affine=False), (2, 6, 3)),
        (nn.LayerNorm((3, 4)), (2, 3, 4)),
        (nn.LayerNorm(5, bias=False), (3, 5)),
    ],
    ids=repr,
)
def test_gradcheck(rng, norm, shape):
    assert nnk.testing.gradcheck(norm, rng.standard_normal(shape))


def test_one_group_is_layer_norm_and_one_channel_each_is_instance_norm(reference, rng):
    x = rng.standard_normal((3, 4, 5, 6))
    np.testing.assert_allclose(
        nn.GroupNorm(1, 4).double()(x), nn.LayerNorm((4, 5, 6)).double()(x), rtol=1e-12, atol=1e-12
    )
    np.testing.assert_allclose(nn.GroupNorm(4, 4).double()(x), nn.InstanceNorm2d(4).double()(x), rtol=1e-12, atol=1e-12)


def test_a_large_mean_with_a_small_spread(rng):
    x = (1e4 + 0.1 * rng.standard_normal((4, 8, 9, 9))).astype(np.float32)
    for norm in (nn.GroupNorm(2, 8), nn.LayerNorm((8, 9, 9)), nn.InstanceNorm2d(8)):
        with nnk.use_backend("reference"):
            expected = norm.double()(x.astype(np.float64))
        np.testing.assert_allclose(norm.float()(x), expected, atol=1e-5)


def test_a_nan_stays_in_its_group(rng):
    x = rng.standard_normal((2, 4, 3, 3)).astype(np.float32)
    x[0, 1, 1, 1] = np.nan
    bad = np.isnan(nn.GroupNorm(2, 4)(x))
    assert bad[0, :2].all()
    assert not bad[0, 2:].any()
    assert not bad[1].any()
    rows = np.isnan(nn.LayerNorm(3)(x)).any(axis=-1)
    assert rows[0, 1, 1]
    assert rows.sum() == 1


def test_weights_that_are_frozen_get_no_gradient(rng):
    norm = nn.GroupNorm(2, 4)
    norm.weight.requires_grad = False
    x = rng.standard_normal((2, 4, 3)).astype(np.float32)
    norm(x)
    assert norm.backward(x, input_grad=False) is None
    assert norm.weight.grad is None
    assert norm.bias.grad.shape == (4,)


def test_reset(rng):
    for norm in (nn.GroupNorm(2, 4), nn.LayerNorm((2, 3))):
        norm.weight.data[...] = norm.bias.data[...] = 5
        norm.reset_parameters()
        assert (norm.weight.data == 1).all()
        assert not norm.bias.data.any()


def test_wrong_arguments():
    with pytest.raises(ValueError, match="num_channels is 4, expected a multiple of num_groups, 3"):
        nn.GroupNorm(3, 4)
    with pytest.raises(ValueError, match="num_groups is 0, expected at least 1"):
        nn.GroupNorm(0, 4)
    with pytest.raises(ValueError, match="normalized_shape is empty"):
        nn.LayerNorm(())
    with pytest.raises(TypeError, match=r"normalized_shape is 2\.0, expected an int"):
        nn.LayerNorm((2.0, 3))


@pytest.mark.parametrize("shape", [(2, 6, 3, 3), (4,), ()])
def test_wrong_inputs_of_group_norm(shape):
    with pytest.raises(ValueError, match=r"GroupNorm: the input has shape .*, expected \(N, 4, \.\.\.\)"):
        nn.GroupNorm(2, 4)(np.zeros(shape, np.float32))


@pytest.mark.parametrize("mode", [True, False])
def test_one_sample_with_one_value_per_group(mode):
    with pytest.raises(ValueError, match="one value in each of 4 groups"):
        nn.GroupNorm(4, 4).train(mode)(np.zeros((1, 4, 1, 1), np.float32))


@pytest.mark.parametrize("shape", [(3,), (2, 4), (3, 2), ()])
def test_wrong_inputs_of_layer_norm(shape):
    with pytest.raises(ValueError, match=r"LayerNorm: the input has shape .*, expected \(\.\.\., 2, 3\)"):
        nn.LayerNorm((2, 3))(np.zeros(shape, np.float32))
