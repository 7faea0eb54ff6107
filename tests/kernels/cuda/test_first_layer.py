"""Convolutions of images with up to four channels: their kernels against float64, and when they are chosen."""

import numpy as np
import pytest

from nnk.kernels import reference
from nnk.kernels.cuda import (
    _arithmetic,
    _chooser,
    _first_layer,
    _first_layer_strict,
    _first_layer_strict_wgrad,
    _first_layer_wgrad,
)
from nnk.kernels.cuda._memory import empty
from nnk.kernels.cuda._numba import SIMULATED
from nnk.kernels.cuda._pack import pack
from nnk.kernels.cuda._patch import TILES, lots
from nnk.kernels.cuda._window import dgrad_windows, forward_axis
from nnk.kernels.shapes import conv_output_size

ml_dtypes = pytest.importorskip("ml_dtypes")
FLOAT32, FLOAT16, BFLOAT16 = map(np.dtype, (np.float32, np.float16, ml_dtypes.bfloat16))
MODES = {"strict": None, "tf32": FLOAT32, "float16": FLOAT16, "bfloat16": BFLOAT16}  # by the type of the factors
FAR = {FLOAT32: 2.0**-18, FLOAT16: 2.0**-11, BFLOAT16: 2.0**-8}  # of the largest result
# images, channels, h, w, filters, r, s, stride, padding by axis and side, dilation, the number of the tile
CASES = {
    "3 by 3": ((1, 3, 9, 19), (16, 3, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 0),
    "7 by 7": ((2, 3, 9, 11), (24, 3, 7, 7), (2, 2), ((3, 3), (3, 3)), (1, 1), 1),
    "grey, two tiles of outputs": ((1, 1, 12, 9), (72, 1, 5, 5), (1, 1), ((2, 2), (3, 3)), (1, 1), 0),
    "4 channels, 1 by 1": ((1, 4, 5, 40), (16, 4, 1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1), 2),
    "one pixel": ((3, 2, 1, 1), (16, 2, 1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1), 0),
    "dilated, uneven padding": ((1, 2, 11, 14), (32, 2, 3, 3), (1, 1), ((0, 5), (4, 1)), (2, 3), 3),
    "11 by 11": ((1, 1, 18, 21), (16, 1, 11, 11), (4, 4), ((2, 2), (2, 2)), (1, 1), 4),
    "steps over pixels": ((1, 3, 7, 25), (16, 3, 1, 2), (3, 2), ((2, 0), (0, 1)), (1, 1), 0),
}  # fmt: skip

EVERY = pytest.mark.parametrize(
    ("name", "dtype", "order"),
    [(name, dtype, "forward") for name in CASES for dtype in (None, FLOAT32, BFLOAT16)]
    + [("7 by 7", FLOAT16, "forward"), *(("7 by 7", dtype, "backward") for dtype in (None, FLOAT32, BFLOAT16))],
    indirect=["order"],
)


@pytest.fixture
def put(device):
    """Copies images there, channels-last; other arrays as they are."""

    def copy(values):
        return device.put_images(values) if values.ndim == 4 else device.put(values)

    copy.get, copy.weight = device.get, device.put
    return copy


def window_of(x, weight, stride, padding, dilation):
    """The window, and the shape of the result."""
    count = tuple(map(conv_output_size, x[2:], weight[2:], stride, padding, dilation))
    return tuple(map(forward_axis, count, weight[2:], stride, padding, dilation)), (x[0], weight[0], *count)


def factors(rng, shape, dtype):
    """Random numbers in memory, and as a product sees them; TF32 has their upper digits. `dtype` None: strict."""
    values = rng.standard_normal(shape).astype(dtype or FLOAT32)
    if dtype != FLOAT32:
        return values, values.astype(np.float64)
    seen = (values.view(np.uint32) + np.uint32(0x1000)) & np.uint32(0xFFFFE000)
    return values, seen.view(np.float32).astype(np.float64)


def far(got, want, dtype):
    """How far the worst result is off, in what is allowed; a NaN is infinitely far."""
    error = np.abs(got.astype(np.float64) - want).max() / np.abs(want).max() / FAR[dtype or FLOAT32]
    return np.nan_to_num(error, nan=np.inf)


def convolve(dtype, x, weight, y, window, *epilogue, tile):
    """By the kernel of these factors, from arrays on the device."""
    if dtype is None:
        rows = pack(weight, 1, window, False)
        _first_layer_strict.convolve(x, rows, y, 1, window, *epilogue, tile=tile)
    else:
        rows = _first_layer.weight_rows(weight, window, dtype, 16 // y.itemsize)
        _first_layer.convolve(x, rows, y, 1, window, *epilogue, tile=tile)


@EVERY
def test_cuda_forward_and_its_statistics(dtype, name, put, order):
    x_shape, w_shape, *options, number = CASES[name]
    window, y_shape = window_of(x_shape, w_shape, *options)
    rng, tile = np.random.default_rng(0), TILES[number]
    (x, x_seen), (weight, weight_seen) = factors(rng, x_shape, dtype), factors(rng, w_shape, dtype)
    y = put(np.full(y_shape, np.nan, x.dtype))
    sets = tuple(empty((3, lots(x_shape, window, tile), y_shape[1])))
    convolve(dtype, put(x), put.weight(weight), y, window, None, None, False, None, sets, tile=tile)
    y, (counts, means, squares) = put.get(y), (put.get(each).astype(np.float64) for each in sets)
    names = dict(zip(("stride", "padding", "dilation"), options))
    assert far(y, reference.conv2d(x_seen, weight_seen, **names), dtype) <= 1
    stored, count = y.astype(np.float64), counts.sum(0)
    mean = (counts * means).sum(0) / count
    square = (squares + counts * (means - mean) ** 2).sum(0)
    assert (count == stored.size / y_shape[1]).all()
    np.testing.assert_allclose(mean, stored.mean((0, 2, 3)), atol=1e-5)
    np.testing.assert_allclose(square, stored.var((0, 2, 3)) * count, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [*MODES.values(), "medium"], ids=[*MODES, "medium"])
def test_cuda_scale_bias_residual_and_relu(dtype, put):
    """In `medium` precision float32 images are multiplied as bfloat16."""
    x_shape, w_shape, *options, _ = CASES["3 by 3"]
    window, y_shape = window_of(x_shape, w_shape, *options)
    rng, memory = np.random.default_rng(0), FLOAT32 if dtype in (None, "medium") else dtype
    x, weight, residual = (rng.standard_normal(shape).astype(memory) for shape in (x_shape, w_shape, y_shape))
    scale, bias = rng.standard_normal((2, 16)).astype(np.float32)
    y, dtype = put(np.full(y_shape, np.nan, x.dtype)), BFLOAT16 if dtype == "medium" else dtype
    arrays = put(scale), put(bias), True, put(residual)
    convolve(dtype, put(x), put.weight(weight), y, window, *arrays, tile=(16, 8))
    x, weight = (a.astype(dtype or FLOAT32).astype(np.float64) for a in (x, weight))
    want = reference.conv2d(x, weight, bias.astype(np.float64), scale=scale, padding=options[1])
    want = np.maximum(want + residual.astype(np.float64), 0)
    assert far(put.get(y), want, FLOAT16 if dtype == FLOAT32 else dtype) <= 1


@EVERY
def test_cuda_gradient_to_the_weight(dtype, name, put, order):
    x_shape, w_shape, *options, number = CASES[name]
    window, y_shape = window_of(x_shape, w_shape, *options)
    rng = np.random.default_rng(0)
    (x, x_seen), (dy, dy_seen) = factors(rng, x_shape, dtype), factors(rng, y_shape, dtype)
    rung = _first_layer_strict_wgrad if dtype is None else _first_layer_wgrad
    got = put.get(rung.wgrad(put(dy), put(x), w_shape, 1, window, tile=TILES[number]))
    names = dict(zip(("stride", "padding", "dilation"), options))
    assert far(got, reference.conv2d_wgrad(dy_seen, x_seen, w_shape, **names), FLOAT32) <= 1


@pytest.mark.parametrize("dtype", MODES.values(), ids=MODES)
def test_cuda_an_infinity_stays_in_the_windows_that_have_it(dtype, put):
    """A word of two numbers may reach beyond a window."""
    x_shape, w_shape = (1, 3, 9, 18), (16, 3, 3, 3)
    window, y_shape = window_of(x_shape, w_shape, (2, 1), (0, 0), (1, 1))
    rng = np.random.default_rng(0)
    (x, _), (weight, _) = factors(rng, x_shape, dtype), factors(rng, w_shape, dtype)
    x[0, :, 2, 9], y = np.inf, put(np.full(y_shape, np.nan, x.dtype))
    convolve(dtype, put(x), put.weight(weight), y, window, tile=(8, 16))
    with np.errstate(invalid="ignore"):
        want = reference.conv2d(x.astype(np.float64), weight.astype(np.float64), stride=(2, 1))
    assert (np.isfinite(put.get(y)) == np.isfinite(want)).all()
    assert 0 < np.isfinite(want).sum() < y.size


@pytest.mark.parametrize("dtype", MODES.values(), ids=MODES)
def test_cuda_an_infinity_under_no_window_leaves_the_gradient_finite(dtype, put):
    """A tile may reach beyond the map, over what is in the image."""
    x_shape, w_shape = (1, 3, 9, 18), (16, 3, 3, 3)
    x, dy = (factors(np.random.default_rng(0), shape, dtype)[0] for shape in (x_shape, (1, 16, 3, 15)))
    x[0, :, 7:], x[..., 17] = np.inf, np.inf
    window = forward_axis(3, 3, 2, 0, 1), forward_axis(15, 3, 1, 0, 1)
    rung = _first_layer_strict_wgrad if dtype is None else _first_layer_wgrad
    assert np.isfinite(put.get(rung.wgrad(put(dy), put(x), w_shape, 1, window, tile=(8, 16)))).all()


@pytest.mark.skipif(not SIMULATED, reason="changes what the simulator is")
@pytest.mark.parametrize(("dtype", "precision", "rung"), [
    (FLOAT32, "highest", "first-ffma"), (FLOAT32, "high", "first"), (FLOAT32, "medium", "first"),
    (FLOAT16, "highest", "first"), (BFLOAT16, "high", "first"),
])  # fmt: skip
def test_cuda_whole_operations_choose_them(dtype, precision, rung, cuda_kernels):
    rng = np.random.default_rng(0)
    x, weight = (rng.standard_normal(shape).astype(dtype) for shape in ((1, 3, 8, 16), (16, 3, 3, 3)))
    options = dict(padding=(1, 1), precision=precision)
    with _chooser.recording() as seen:
        y, sets = cuda_kernels.conv2d(x, weight, statistics=True, **options)
        dweight = cuda_kernels.conv2d_wgrad(y, x, weight.shape, **options)
    assert [_chooser.candidates(work, (8, 0))[0] for work in seen] == [(rung, (8, 16))] * 2
    assert (sets is None) == (precision == "medium")
    x, weight, y = (a.astype(np.float64) for a in (x, weight, y))
    bound = 2.0**-7 if dtype == BFLOAT16 or precision == "medium" else 2.0**-10
    for got, want in ((y, reference.conv2d(x, weight, padding=(1, 1))),
                      (dweight, reference.conv2d_wgrad(y, x, weight.shape, padding=(1, 1)))):  # fmt: skip
        np.testing.assert_allclose(got, want, atol=bound * np.abs(want).max())


LAYER = (1, 3, 16, 16), (16, 3, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1)


@pytest.mark.parametrize(("change", "what"), [
    ((), True), (("x", (1, 5, 16, 16)), False), (("x", (1, 3, 3, 3)), False), (("filters", 8), False),
    (("filters", 20), False), (("groups", 3), False), (("dilation", (1, 2)), False), (("taps", (40, 40)), False),
    (("capability", (7, 5)), False), (("x", (0, 3, 16, 16)), False),
])  # fmt: skip
def test_cuda_what_the_kernels_of_tensor_cores_take(change, what):
    given = dict([change]) if change else {}
    (x, (filters, *taps), stride, padding, dilation), groups = LAYER, given.get("groups", 1)
    x, filters, taps = given.get("x", x), given.get("filters", filters), given.get("taps", taps[1:])
    padding = ((taps[0] - 1,) * 2, (taps[1] - 1,) * 2)
    window, y = window_of(x, (filters, 3, *taps), stride, padding, given.get("dilation", dilation))
    capability = given.get("capability", (8, 0))
    assert bool(_first_layer.tiles(capability, BFLOAT16, BFLOAT16, x, y, groups, window)) == what


def test_cuda_the_gradient_to_the_input_is_not_theirs():
    (windows,) = dgrad_windows((16, 16), (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1))
    shapes = (1, 3, 16, 16), (1, 16, 16, 16)
    assert not _first_layer.tiles((8, 0), FLOAT32, FLOAT32, *shapes, 1, windows)
    assert not _first_layer_strict.tiles(FLOAT32, *shapes, 1, windows)
    assert _arithmetic.factors(FLOAT32, "high", (8, 0)) == FLOAT32
