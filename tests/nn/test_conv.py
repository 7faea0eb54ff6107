import numpy as np
import pytest

import nnk
from nnk import nn

VARIANTS = [
    ((1, 1, 1), {}, (2, 1, 4, 5)),
    ((3, 4, 3), {}, (2, 3, 6, 7)),
    ((3, 4, (3, 2)), {"bias": False}, (2, 3, 6, 7)),
    ((3, 4, 3), {"stride": 2, "padding": 1}, (2, 3, 8, 7)),
    ((2, 2, 3), {"stride": (2, 1), "padding": (0, 2), "dilation": (1, 2)}, (1, 2, 8, 9)),
    ((4, 6, 3), {"groups": 2, "padding": "valid"}, (2, 4, 5, 5)),
    ((4, 8, 3), {"groups": 4, "padding": 1}, (2, 4, 5, 5)),
    ((2, 3, (2, 4)), {"padding": "same"}, (2, 2, 5, 6)),
    ((2, 3, 3), {"padding": "same", "dilation": 2}, (2, 2, 5, 6)),
    ((3, 4, 3), {"padding": (2, 1), "padding_mode": "reflect"}, (2, 3, 6, 7)),
    ((3, 4, 3), {"padding": 3, "padding_mode": "replicate", "stride": 2}, (2, 3, 2, 7)),
    ((4, 4, 3), {"padding": 5, "padding_mode": "circular", "groups": 4}, (2, 4, 5, 6)),
    ((2, 3, (2, 4)), {"padding": "same", "padding_mode": "reflect"}, (2, 5, 6)),
    ((3, 4, 3), {}, (3, 6, 7)),
    ((3, 4, 3), {}, (0, 3, 6, 7)),
]


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize(("args", "kwargs", "shape"), VARIANTS)
def test_as_in_torch(same_as_torch, rng, args, kwargs, shape):
    same_as_torch("Conv2d", args, kwargs, rng.standard_normal(shape))


def test_more_padding_than_the_image_can_fill(reference):
    for mode, padding in (("reflect", 4), ("circular", 5)):
        conv = nn.Conv2d(1, 1, 3, padding=padding, padding_mode=mode).double()
        conv(np.zeros((1, 1, 5, 5)))
        with pytest.raises(ValueError, match=f"too small for padding .* with padding_mode '{mode}'"):
            conv(np.zeros((1, 1, 5, 4)))


def test_a_sequence_of_one_is_a_pair(reference):
    assert nn.Conv2d(3, 4, (3,), padding=[1]).kernel_size == (3, 3)


def test_gradcheck(reference, rng):
    assert nnk.testing.gradcheck(nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2), rng.standard_normal((2, 4, 5, 6)))


def test_any_memory_order_is_taken(reference, rng):
    conv = nn.Conv2d(3, 2, 3).double()
    x = rng.standard_normal((2, 3, 5, 6))
    expected = conv(x)
    np.testing.assert_array_equal(conv(np.asfortranarray(x)), expected)
    np.testing.assert_array_equal(conv(x[:, ::-1, ::-1][:, ::-1, ::-1]), expected)


def test_no_input_gradient_on_request(reference, rng):
    conv = nn.Conv2d(3, 2, 3).double()
    conv(rng.standard_normal((1, 3, 4, 4)))
    assert conv.backward(np.ones((1, 2, 2, 2)), input_grad=False) is None
    assert conv.weight.grad is not None


def test_frozen_parameters_get_no_gradient(reference, rng):
    conv = nn.Conv2d(3, 2, 3).double()
    conv.weight.requires_grad = False
    conv(rng.standard_normal((1, 3, 4, 4)))
    assert conv.backward(np.ones((1, 2, 2, 2))).shape == (1, 3, 4, 4)
    assert conv.weight.grad is None
    assert conv.bias.grad is not None


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"in_channels": 0}, "in_channels is 0"),
        ({"kernel_size": 0}, "kernel_size is 0"),
        ({"kernel_size": (1, 2, 3)}, r"kernel_size is \(1, 2, 3\)"),
        ({"stride": 0}, "stride is 0"),
        ({"padding": -1}, "padding is -1"),
        ({"padding": "full"}, "padding is 'full'"),
        ({"padding": "same", "stride": 2}, "stride"),
        ({"groups": 3}, "groups is 3, which does not divide in_channels, 4"),
        ({"groups": 4}, "groups is 4, which does not divide out_channels, 6"),
        ({"padding_mode": "mirror"}, "padding_mode is 'mirror', expected one of 'zeros', 'reflect'"),
        ({"device": "tpu"}, "device is 'tpu'"),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        nn.Conv2d(**{"in_channels": 4, "out_channels": 6, "kernel_size": 3, **kwargs})


@pytest.mark.parametrize(
    ("kwargs", "message"), [({"kernel_size": 2.5}, "kernel_size is 2.5"), ({"dtype": "int32"}, "dtype is int32")]
)
def test_bad_types(kwargs, message):
    with pytest.raises(TypeError, match=message):
        nn.Conv2d(**{"in_channels": 4, "out_channels": 6, "kernel_size": 3, **kwargs})


@pytest.mark.parametrize("shape", [(2, 3), (3,), (), (2, 3, 4, 5, 6), (2, 4, 8, 8), (4, 8, 8), (8, 8)])
def test_wrong_rank_or_channels(reference, shape):
    with pytest.raises(ValueError, match=r"Conv2d: the input has shape .*, expected \(N, 3, H, W\)"):
        nn.Conv2d(3, 2, 3).double()(np.zeros(shape))


@pytest.mark.parametrize("shape", [(1, 3, 2, 8), (1, 3, 8, 2), (1, 3, 0, 8)])
def test_kernel_larger_than_the_padded_input(reference, shape):
    with pytest.raises(ValueError, match=r"too small for kernel_size \(5, 5\)"):
        nn.Conv2d(3, 2, 5, padding=1).double()(np.zeros(shape))


def test_integer_images():
    with pytest.raises(TypeError, match=r"input has dtype uint8.*astype\(np.float32\)"):
        nn.Conv2d(3, 2, 3)(np.zeros((1, 3, 4, 4), np.uint8))


def test_float64_on_the_cpu_names_the_ways_out():
    with pytest.raises(TypeError, match=r"astype\(np.float32\).*use_backend\(\"reference\"\)"):
        nn.Conv2d(3, 2, 3).double()(np.zeros((1, 3, 4, 4)))


def test_model_and_input_of_different_dtype():
    with pytest.raises(TypeError, match=r"input is float32.*holds float64.*model.to"):
        nn.Conv2d(3, 2, 3).double()(np.zeros((1, 3, 4, 4), np.float32))


def test_default_weights_are_torchs_distribution():
    nnk.manual_seed(0)
    conv = nn.Conv2d(16, 64, 3)
    bound = 1 / np.sqrt(16 * 9)
    for parameter in conv.parameters():
        assert np.abs(parameter.data).max() <= bound
        assert np.abs(parameter.data).max() > 0.9 * bound
    assert abs(conv.weight.data.std() / (bound / np.sqrt(3)) - 1) < 0.02
