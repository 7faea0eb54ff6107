import numpy as np
import pytest

import nnk
from nnk import nn

MAX = [
    ((2,), {}, (2, 3, 4, 6)),
    ((3,), {"stride": 2}, (2, 3, 8, 7)),
    ((3,), {"stride": ()}, (2, 3, 8, 7)),
    (((3, 2),), {"stride": (2, 1), "padding": (1, 0)}, (2, 3, 8, 7)),
    ((3,), {"stride": 2, "padding": 1, "ceil_mode": True}, (2, 3, 8, 6)),
    ((2,), {"dilation": 3}, (1, 2, 7, 8)),
    ((3,), {"dilation": (2, 1), "padding": 1, "stride": 1, "return_indices": True}, (1, 2, 9, 8)),
    ((2,), {"return_indices": True}, (2, 3, 5, 7)),
    ((3,), {"stride": 2, "padding": 1, "return_indices": True}, (3, 5, 7)),
    ((2,), {}, (3, 4, 6)),
    ((2,), {}, (0, 3, 4, 6)),
]
AVG = [
    ((2,), {}, (2, 3, 4, 6)),
    (((3, 2),), {"stride": (2, 1), "padding": (1, 0)}, (2, 3, 8, 7)),
    ((3,), {"stride": 2, "padding": 1, "count_include_pad": False}, (2, 3, 8, 7)),
    ((3,), {"stride": 2, "padding": 1, "ceil_mode": True}, (2, 3, 8, 6)),
    ((3,), {"stride": 2, "padding": 1, "ceil_mode": True, "count_include_pad": False}, (2, 3, 8, 6)),
    ((2,), {"divisor_override": 3}, (2, 3, 4, 6)),
    ((2,), {"divisor_override": -3}, (2, 3, 4, 6)),
    ((2,), {}, (3, 4, 6)),
    ((2,), {}, (0, 3, 4, 6)),
]
ADAPTIVE = [(1, (2, 3, 4, 6)), ((2, 3), (2, 3, 5, 7)), ((None, 3), (2, 3, 5, 7)), (8, (1, 2, 4, 5)), (2, (3, 4, 6))]


@pytest.mark.parametrize(("args", "kwargs", "shape"), MAX)
def test_max_as_in_torch(same_as_torch, rng, args, kwargs, shape):
    same_as_torch("MaxPool2d", args, kwargs, rng.standard_normal(shape))


def test_max_with_ties_as_in_torch(same_as_torch, rng):
    same_as_torch("MaxPool2d", (3, 2, 1), {"return_indices": True}, rng.integers(0, 3, (2, 3, 9, 9)).astype(float))


@pytest.mark.parametrize(("args", "kwargs", "shape"), AVG)
def test_avg_as_in_torch(same_as_torch, rng, args, kwargs, shape):
    same_as_torch("AvgPool2d", args, kwargs, rng.standard_normal(shape))


@pytest.mark.parametrize(("size", "shape"), ADAPTIVE)
def test_adaptive_as_in_torch(same_as_torch, rng, size, shape):
    same_as_torch("AdaptiveAvgPool2d", (size,), {}, rng.standard_normal(shape))


@pytest.mark.parametrize("return_indices", [False, True])
@pytest.mark.parametrize(
    ("size", "shape"), [*ADAPTIVE, ((None, None), (2, 3, 4, 5)), (3, (0, 3, 4, 5)), (5, (2, 17, 18))]
)
def test_adaptive_max_as_in_torch(same_as_torch, rng, size, shape, return_indices):
    options = {"return_indices": return_indices}
    same_as_torch("AdaptiveMaxPool2d", (size,), options, rng.standard_normal(shape))
    same_as_torch("AdaptiveMaxPool2d", (size,), options, rng.integers(0, 3, shape).astype(float))


@pytest.mark.parametrize(
    "pool",
    [nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(3, 2, 1), nn.AdaptiveAvgPool2d((2, 3)), nn.AdaptiveMaxPool2d((2, 3))],
    ids=repr,
)
def test_gradcheck(pool, rng):
    assert nnk.testing.gradcheck(pool, rng.standard_normal((2, 3, 7, 8)))


def test_nan_wins(reference):
    x = np.zeros((1, 1, 2, 4))
    x[0, 0, 1, 1] = np.nan
    y = nn.MaxPool2d(2)(x)
    assert np.isnan(y[0, 0, 0, 0])
    assert y[0, 0, 0, 1] == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.MaxPool2d(0), "kernel_size is 0"),
        (lambda: nn.MaxPool2d(2, stride=0), "stride is 0"),
        (lambda: nn.MaxPool2d(3, padding=2), "padding is 2, expected at most half of kernel_size, 3"),
        (lambda: nn.AvgPool2d(2, padding=(0, 2)), "padding"),
        (lambda: nn.MaxPool2d(2, dilation=0), "dilation is 0"),
        (lambda: nn.AvgPool2d(2, divisor_override=0), "divisor_override is 0"),
        (lambda: nn.AdaptiveAvgPool2d(-1), "output_size is -1"),
        (lambda: nn.AdaptiveAvgPool2d((1, 2, 3)), "output_size"),
        (lambda: nn.AdaptiveMaxPool2d(-1), "output_size is -1"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "pool", [nn.MaxPool2d(2), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(2), nn.AdaptiveMaxPool2d(2)], ids=repr
)
@pytest.mark.parametrize("shape", [(4, 4), (1, 1, 1, 4, 4), (1, 0, 4, 4), (1, 1, 0, 4)])
def test_what_is_no_image(reference, pool, shape):
    with pytest.raises(ValueError, match=r"the input has shape .*, expected \(N, C, H, W\) or \(C, H, W\)"):
        pool(np.zeros(shape))


@pytest.mark.parametrize("pool", [nn.MaxPool2d(5), nn.AvgPool2d(5)], ids=repr)
def test_image_smaller_than_the_window(reference, pool):
    with pytest.raises(ValueError, match="too small for kernel_size 5"):
        pool(np.zeros((1, 1, 4, 8)))


def test_integer_images():
    with pytest.raises(TypeError, match="int64"):
        nn.MaxPool2d(2)(np.zeros((1, 1, 4, 4), np.int64))
