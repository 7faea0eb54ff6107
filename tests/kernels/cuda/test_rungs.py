"""Every rung of the convolutions' ladder, and every tile of it, against float64 on a GPU; the chooser takes but one.

The cases are large enough for blocks that compute several tiles and for stages that come round many times. In the
simulator one small case shows that this file works.
"""

import numpy as np
import pytest

from nnk.kernels import reference
from nnk.kernels.cuda import _arithmetic, _chooser
from nnk.kernels.cuda._numba import SIMULATED
from nnk.kernels.cuda._operands import weight_rows
from nnk.kernels.cuda._tuning import Work
from nnk.kernels.cuda._window import dgrad_windows, forward_axis
from nnk.kernels.cuda._winograd_transforms import LOT, TILE
from nnk.kernels.shapes import conv_output_size

ml_dtypes = pytest.importorskip("ml_dtypes")
DTYPES = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
FAR = {"float32": 2.0**-15, "float16": 2.0**-10, "bfloat16": 2.0**-7}  # of the largest result: sums, and its rounding
# images, channels, h, w, filters, r, s, stride, padding, dilation, groups
CASES = {
    "pointwise": (3, 64, 5, 5, 136, 1, 1, 1, 0, 1, 1),
    "tails": (2, 40, 9, 8, 72, 3, 3, 1, 1, 1, 1),
    "many tiles": (24, 64, 28, 28, 264, 3, 3, 1, 1, 1, 1),
    "many steps": (4, 512, 7, 7, 512, 3, 3, 1, 1, 1, 1),
    "stride": (8, 64, 14, 15, 136, 3, 3, 2, 1, 1, 1),
    "7 by 7": (2, 16, 40, 38, 64, 7, 7, 2, 3, 1, 1),
    "groups": (4, 128, 14, 11, 64, 3, 2, 1, 2, 2, 2),
    "dilation": (2, 64, 17, 16, 64, 3, 3, 2, 2, 2, 1),
    "linear": (200, 40, 1, 1, 24, 1, 1, 1, 0, 1, 1),
    "far taps": (2, 32, 9, 70, 64, 3, 1, 3, 64, 60, 1),
}
if SIMULATED:
    CASES, DTYPES = {"pointwise": CASES["pointwise"]}, {"bfloat16": DTYPES["bfloat16"]}
TILES = 1 if SIMULATED else 8  # at most, of a rung
STRICT = _chooser.STRICT_WEIGHTS  # rungs that take float32 as it is
KINDS = ("product", "strict product")
pytestmark = [pytest.mark.parametrize("name", CASES), pytest.mark.parametrize("dtype", DTYPES)]


@pytest.fixture
def put(device, monkeypatch):
    """Copies images there, channels-last, in a type; other arrays as they are."""
    if SIMULATED:
        monkeypatch.setattr(_arithmetic, "SIMULATED_CAPABILITY", (9, 0))

    def copy(values):
        return device.put_images(values) if values.ndim == 4 else device.put(values)

    copy.get = device.get
    copy.nothing = lambda shape, dtype: copy(np.full(shape, np.nan, DTYPES[dtype]))
    return copy


def factors(rng, shape, dtype, strict, scale=1.0):
    """Random numbers, and what a product sees of them in float64: tensor cores the upper digits of float32."""
    values = (scale * rng.standard_normal(shape)).astype(DTYPES[dtype])
    if strict or dtype != "float32":
        return values, values.astype(np.float64)
    values.view(np.uint32)[...] |= 1  # no ties, which kernels round away from zero and the copy engine to even
    seen = (values.view(np.uint32) + np.uint32(0x1000)) & np.uint32(0xFFFFE000)
    return values, seen.view(np.float32).astype(np.float64)


def every(work, rungs):
    """The rungs of this name, and their tiles, that can do it."""
    return [one for one in _chooser.candidates(Work(*work), _arithmetic.capability()) if one[0] in rungs]


def far(got, want, dtype):
    """How far the worst result is off, in what is allowed; a NaN is infinitely far."""
    error = np.abs(np.asarray(got, np.float64) - want).max() / np.abs(want).max() / FAR[dtype]
    return np.nan_to_num(error, nan=np.inf)


def lots_of(rung, y, tile):
    """The pixels (pixels, channels) of which a rung leaves statistics together, in float64."""
    rows = np.asarray(y, np.float64).transpose(0, 2, 3, 1)
    if rung != "winograd":
        rows = rows.reshape(-1, y.shape[1])
        return np.split(rows, range(tile[0], len(rows), tile[0]))
    corners = [(image, h, w) for image in rows for h in range(0, y.shape[2], TILE) for w in range(0, y.shape[3], TILE)]
    tiles = [image[h : h + TILE, w : w + TILE].reshape(-1, y.shape[1]) for image, h, w in corners]
    return [np.concatenate(tiles[i : i + LOT]) for i in range(0, len(tiles), LOT)]


def far_statistics(sets, lots):
    """The same of counts, means and squared deviations of each column in these lots of pixels."""
    counts, means, squares = sets.astype(np.float64)
    for lot, part in enumerate(lots):
        mean, square = part.mean(0), ((part - part.mean(0)) ** 2).sum(0)
        means[lot] -= mean
        means[lot] /= 2.0**-20 * (np.abs(mean) + np.sqrt(square / len(part)) + 1e-30)
        squares[lot] -= square
        squares[lot] /= 2.0**-17 * square + 1e-30
        counts[lot] -= len(part)
    error = max(np.abs(means).max(), np.abs(squares).max(), np.inf if counts.any() else 0)
    return np.nan_to_num(error, nan=np.inf)


def check(errors):
    """`errors` are those of all tiles."""
    assert all(error <= 1 for error in errors.values()), {tile: f"{error:.2g}" for tile, error in errors.items()}


def rows_of(rung, weight, groups, window, transposed, dtype):
    """The weight as a rung's products take it."""
    if rung in STRICT:
        return _chooser.STRICT_WEIGHTS[rung](weight, groups, window, transposed)
    return weight_rows(weight, groups, window, transposed, dtype)


def problem(name, dtype, strict):
    """The numbers of a case, and of its options those that are the same for all gradients."""
    n, c, h, w, k, r, s, stride, padding, dilation, groups = CASES[name]
    p, q = conv_output_size(h, r, stride, padding, dilation), conv_output_size(w, s, stride, padding, dilation)
    options = dict(stride=(stride,) * 2, padding=(padding,) * 2, dilation=(dilation,) * 2)
    window = forward_axis(p, r, stride, padding, dilation), forward_axis(q, s, stride, padding, dilation)
    rng = np.random.default_rng(0)
    x, dy = factors(rng, (n, c, h, w), dtype, strict), factors(rng, (n, k, p, q), dtype, strict)
    weight = factors(rng, (k, c // groups, r, s), dtype, strict, (c * r * s) ** -0.5)
    return x, dy, weight, options, groups, window


@pytest.mark.parametrize("rung", _chooser.PRODUCTS)
def test_cuda_forward(rung, dtype, name, put):
    (x, x_seen), (dy, _), (weight, weight_seen), options, groups, window = problem(name, dtype, rung in STRICT)
    want = reference.conv2d(x_seen, weight_seen, groups=groups, **options)
    x, weight, errors = put(x), put(weight.reshape(-1)).reshape(weight.shape), {}
    for _, tile in every((KINDS[rung in STRICT], x.dtype, x.dtype, groups, x.shape, dy.shape, window), (rung,))[:TILES]:
        y, rows = put.nothing(dy.shape, dtype), rows_of(rung, weight, groups, window, False, x.dtype)
        _chooser.PRODUCTS[rung].convolve(x, rows, y, groups, window, tile=tile)
        errors[tile] = far(put.get(y), want, dtype)
        again, lots = put.nothing(dy.shape, dtype), _chooser.statistics_lots(rung, tile, x.shape, window)
        sets = put(np.full((3, lots, dy.shape[1]), np.nan, np.float32))
        _chooser.PRODUCTS[rung].convolve(x, rows, again, groups, window, sets=tuple(sets), tile=tile)
        assert np.array_equal(put.get(again), put.get(y)), f"another y beside statistics, {tile}"
        errors[(*tile, "statistics")] = far_statistics(put.get(sets), lots_of(rung, put.get(y), tile))
    check(errors)


@pytest.mark.parametrize("rung", _chooser.PRODUCTS)
def test_cuda_dgrad(rung, dtype, name, put):
    (x, _), (dy, dy_seen), (weight, weight_seen), options, groups, _ = problem(name, dtype, rung in STRICT)
    want = reference.conv2d_dgrad(dy_seen, weight_seen, x.shape, groups=groups, **options)
    dy, weight, errors = put(dy), put(weight.reshape(-1)).reshape(weight.shape), {}
    for number in range(TILES):
        dx, tiles = put.nothing(x.shape, dtype), []
        for window in dgrad_windows(x.shape[2:], weight.shape[2:], *options.values()):
            work = KINDS[rung in STRICT], dy.dtype, dy.dtype, groups, dy.shape, x.shape, window
            able = every(work, (rung,)) or every(work, _chooser.PRODUCTS)  # the copy engine walks under no tap
            takes, tile = able[number % len(able)]
            rows = rows_of(takes, weight, groups, window, True, dy.dtype)
            _chooser.PRODUCTS[takes].convolve(dy, rows, dx, groups, window, tile=tile)
            tiles.append((takes, tile))
        errors[tuple(tiles)] = far(put.get(dx), want, dtype)
    check(errors)


@pytest.mark.parametrize("rung", _chooser.WGRADS)
def test_cuda_wgrad(rung, dtype, name, put):
    if rung in STRICT and dtype != "float32":
        pytest.skip("16 bits have tensor cores on every card")
    (x, x_seen), (dy, dy_seen), (weight, _), options, groups, window = problem(name, dtype, rung in STRICT)
    want = reference.conv2d_wgrad(dy_seen, x_seen, weight.shape, groups=groups, **options)
    x, dy, errors = put(x), put(dy), {}
    kind = "strict wgrad" if rung in STRICT else "wgrad"
    for _, tile in every((kind, x.dtype, np.dtype(np.float32), groups, x.shape, weight.shape, window), (rung,)):
        got = _chooser.WGRADS[rung].wgrad(dy, x, weight.shape, groups, window, tile=tile)
        errors[tile] = far(put.get(got), want, "float32")
    check(errors)
