"""What products of matrices do to their sums before they are written, and what they leave of them: statistics."""

import numpy as np
import pytest

from nnk.kernels import reference
from nnk.kernels.cuda import _implicit_gemm, _mma_gemm
from nnk.kernels.cuda._layout import channels_last
from nnk.kernels.cuda._numba import SIMULATED
from nnk.kernels.cuda._operands import images, weight_rows
from nnk.kernels.cuda._pack import pack
from nnk.kernels.cuda._window import forward_axis
from nnk.kernels.shapes import conv_output_size

ml_dtypes = pytest.importorskip("ml_dtypes")
pytestmark = pytest.mark.skipif(not SIMULATED, reason="whole operations prove these on a GPU")
DTYPES = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
UNITS = {"float32": 2.0**-22, "float16": 2.0**-11, "bfloat16": 2.0**-8}


def convolve(rung, dtype, tile, x, weight, epilogue, groups=1, stride=1, padding=0, dilation=1, **options):
    """y on a rung, and in float64."""
    pairs = dict(stride=(stride, 1), padding=(padding, 0), dilation=(dilation, 1))
    taps, dtype = weight.shape[2:], DTYPES[dtype]
    size = tuple(map(conv_output_size, x.shape[2:], taps, *pairs.values()))
    window = tuple(map(forward_axis, size, taps, *pairs.values()))
    y = channels_last(np.full((len(x), len(weight), *size), np.nan).astype(dtype))
    scale, bias, rectify, residual = epilogue
    residual = residual if residual is None else channels_last(residual.astype(dtype))
    given, epilogue = channels_last(x.astype(dtype)), (scale, bias, rectify, residual)
    if rung == "ffma":
        matrix = pack(weight.astype(dtype), groups, window, False)
        _implicit_gemm.convolve(given, matrix, y, groups, window, *epilogue, tile=tile, **options)
    else:
        rows = weight_rows(weight.astype(dtype), groups, window, False, dtype)
        held = images(given, groups, dtype)
        _mma_gemm.convolve(held, rows, y, groups, window, *epilogue, tile=tile, **options)
    x, weight = (seen(a.astype(dtype), rung) for a in (x, weight))
    want = reference.conv2d(x, weight, None if bias is None else bias.astype(np.float64), groups=groups, scale=scale,
                            **pairs)
    if residual is not None:
        want = want + residual.astype(np.float64)
    return y, np.maximum(want, 0) if rectify else want


def seen(factor, rung):
    """What the rung multiplies: float32 as TF32 on tensor cores."""
    if rung == "mma" and factor.dtype == np.float32:
        factor = ((factor.view(np.uint32) + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)
    return factor.astype(np.float64)


def check(y, want, dtype):
    assert y.dtype == DTYPES[dtype]
    np.testing.assert_allclose(y.astype(np.float64), want, rtol=UNITS[dtype], atol=2.0**-20 * np.abs(want).max())


@pytest.mark.parametrize(("rung", "dtype", "tile"), [
    ("ffma", "float32", (128, 128)), ("ffma", "float32", (64, 64)), ("ffma", "bfloat16", (64, 64)),
    ("mma", "float32", (64, 64, 4)), ("mma", "float16", (64, 64, 2)), ("mma", "bfloat16", (64, 64, 4)),
])  # fmt: skip
@pytest.mark.parametrize("filters", [16, 7])
def test_cuda_a_residual_is_added_before_the_activation(rung, dtype, tile, filters):
    tile = (64, 64) if rung == "ffma" and filters == 7 else tile
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((2, 8, 4, 5)), rng.standard_normal((filters, 8, 1, 1))
    scale, bias = rng.standard_normal((2, filters)).astype(np.float32)
    residual = rng.standard_normal((2, filters, 4, 5))
    check(*convolve(rung, dtype, tile, x, weight, (scale, bias, True, residual)), dtype)


def statistics_of(y, m):
    """Counts, means and squared deviations of m rows of pixels each, of the numbers that memory holds."""
    values = y.astype(np.float64).transpose(0, 2, 3, 1).reshape(-1, y.shape[1])
    lots = [values[i : i + m] for i in range(0, len(values), m)]
    means = np.array([lot.mean(0) for lot in lots])
    squares = np.array([((lot - mean) ** 2).sum(0) for lot, mean in zip(lots, means)])
    return np.array([[len(lot)] * y.shape[1] for lot in lots]), means, squares


def compare_statistics(rung, dtype, tile, x, weight, epilogue, **window):
    y, want = convolve(rung, dtype, tile, x, weight, epilogue, **window)
    pixels, filters = y.size // y.shape[1], y.shape[1]
    sets = tuple(np.full((-(-pixels // tile[0]), filters), np.nan, np.float32) for _ in range(3))
    again, _ = convolve(rung, dtype, tile, x, weight, epilogue, sets=sets, **window)
    check(y, want, dtype)
    assert np.array_equal(y, again)  # both kernels compute the same
    counts, means, squares = statistics_of(y, tile[0])
    assert np.array_equal(sets[0], counts)
    unit = np.finfo(np.float32).eps
    assert (np.abs(sets[1] - means) <= unit * (np.abs(means) + 4 * np.sqrt(squares / counts))).all()
    assert (np.abs(sets[2] - squares) <= 16 * unit * squares).all()


WINDOWS = {  # x, weight, and the window of a convolution
    "tails": ((2, 9, 7, 11), (11, 9, 3, 3), dict(padding=1)),
    "whole tiles": ((2, 8, 8, 16), (64, 8, 1, 1), {}),
    "one pixel": ((1, 20, 1, 1), (70, 20, 1, 1), {}),
    "groups": ((1, 24, 9, 8), (72, 12, 3, 3), dict(groups=2, padding=1, stride=2)),
    "dilation": ((3, 8, 9, 9), (24, 8, 3, 2), dict(dilation=2, padding=2)),
}


@pytest.mark.parametrize(("case", "rung", "dtype", "tile", "backward"), [
    ("tails", "ffma", "float32", (64, 64), False), ("tails", "mma", "bfloat16", (64, 64, 4), True),
    ("tails", "mma", "float32", (128, 64, 3), False), ("tails", "ffma", "float16", (64, 64), True),
    ("whole tiles", "ffma", "float32", (128, 128), True), ("whole tiles", "mma", "float16", (128, 128, 3), False),
    ("whole tiles", "ffma", "bfloat16", (64, 64), False), ("whole tiles", "mma", "float16", (64, 64, 2), True),
    ("one pixel", "ffma", "float32", (64, 64), True), ("one pixel", "mma", "float16", (64, 64, 4), False),
    ("one pixel", "mma", "float32", (128, 128, 3), False), ("one pixel", "mma", "bfloat16", (128, 64, 3), True),
    ("groups", "ffma", "float32", (128, 128), False), ("groups", "mma", "float32", (64, 64, 4), True),
    ("groups", "mma", "float16", (64, 64, 2), False), ("groups", "mma", "bfloat16", (128, 64, 3), False),
    ("dilation", "ffma", "float32", (64, 64), True), ("dilation", "mma", "bfloat16", (128, 128, 3), True),
    ("dilation", "mma", "float32", (64, 64, 4), False),
])  # fmt: skip
def test_cuda_statistics_of_what_is_stored(case, rung, dtype, tile, backward, monkeypatch):
    import cuda_simulator

    monkeypatch.setattr(cuda_simulator.order, "backward", backward)
    x, weight, window = WINDOWS[case]
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal(x), rng.standard_normal(weight)
    bias = rng.standard_normal(len(weight)).astype(np.float32)
    compare_statistics(rung, dtype, tile, x, weight, (None, bias, False, None), **window)


@pytest.mark.parametrize(("rung", "dtype", "tile"), [
    ("ffma", "float32", (128, 128)), ("mma", "float32", (64, 64, 4)), ("mma", "float16", (128, 64, 3)),
])  # fmt: skip
def test_cuda_statistics_survive_a_large_mean(rung, dtype, tile):
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((2, 8, 9, 9)), rng.standard_normal((16, 8, 1, 1))
    if dtype == "float32":
        bias = (1e4 + rng.standard_normal(16)).astype(np.float32)
        weight /= 10
    else:
        bias = (500 + rng.standard_normal(16)).astype(np.float32)
    compare_statistics(rung, dtype, tile, x, weight, (None, bias, False, None))


@pytest.mark.parametrize(("rung", "dtype", "tile"), [
    ("ffma", "float32", (64, 64)), ("mma", "float32", (128, 64, 3)), ("mma", "float16", (64, 64, 2)),
])  # fmt: skip
def test_cuda_statistics_of_a_rectified_sum(rung, dtype, tile):
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((2, 8, 5, 7)), rng.standard_normal((16, 8, 3, 1))
    scale, bias = rng.standard_normal((2, 16)).astype(np.float32)
    residual = rng.standard_normal((2, 16, 5, 7))
    compare_statistics(rung, dtype, tile, x, weight, (scale, bias, True, residual), padding=1)


@pytest.mark.parametrize(("dtype", "options", "given"), [
    ("float32", dict(), True), ("float32", dict(precision="high"), True), ("float16", dict(), True),
    ("float32", dict(precision="medium"), False), ("float32", dict(groups=8), False),
])  # fmt: skip
def test_cuda_which_convolutions_give_statistics(dtype, options, given, cuda_kernels):
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((2, 8, 6, 5)), rng.standard_normal((16, 8 // options.get("groups", 1), 1, 1))
    y, sets = cuda_kernels.conv2d(x.astype(DTYPES[dtype]), weight.astype(DTYPES[dtype]), statistics=True, **options)
    assert (sets is not None) == given
    if given:
        counts, means, squares = statistics_of(y, 64)
        np.testing.assert_array_equal(sets[0], counts)
        np.testing.assert_allclose(sets[1], means, atol=1e-6)
        np.testing.assert_allclose(sets[2], squares, rtol=2e-6)
