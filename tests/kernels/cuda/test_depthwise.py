"""Depthwise convolutions of awkward shapes, each by the kernel it should go to, in all dtypes and both orders."""

from importlib import import_module

import numpy as np
import pytest

from nnk.kernels import reference
from nnk.kernels.cuda import _depthwise_square
from nnk.kernels.cuda._numba import SIMULATED

ml_dtypes = pytest.importorskip("ml_dtypes")
pytestmark = pytest.mark.skipif(not SIMULATED, reason="whole operations prove these on a GPU")
UNITS = {np.float32: 2.0**-22, np.float16: 2.0**-10, ml_dtypes.bfloat16: 2.0**-7}
FLOAT32, FLOAT16, BFLOAT16 = UNITS
CASES = {  # x, window, stride, padding, dtype
    "3x3": ((2, 4, 5, 7), 3, 1, (1, 1), FLOAT32),
    "3x3, one pixel": ((1, 20, 1, 1), 3, 1, (1, 1), FLOAT16),
    "3x3, no padding": ((1, 8, 10, 6), 3, 1, (0, 0), BFLOAT16),
    "3x3, padded over the window": ((1, 4, 2, 1), 3, 1, (3, (4, 0)), FLOAT32),
    "3x3, two lots of channels": ((3, 36, 4, 3), 3, 1, (1, 1), FLOAT32),
    "5x5": ((1, 4, 6, 9), 5, 1, (2, 2), FLOAT16),
    "5x5, smaller than the window": ((1, 8, 2, 3), 5, 1, ((2, 3), (0, 4)), FLOAT32),
    "7x7": ((1, 4, 9, 5), 7, 1, (3, 3), BFLOAT16),
    "7x7, one output": ((2, 4, 7, 7), 7, 1, (0, 0), FLOAT32),
    "3x3/2": ((1, 8, 7, 10), 3, 2, (1, 1), FLOAT32),
    "3x3/2, asymmetric": ((2, 4, 6, 11), 3, 2, ((0, 1), (1, 0)), FLOAT16),
    "3x3/2, the last line is not met": ((1, 4, 8, 6), 3, 2, (0, 0), BFLOAT16),
    "3x3/2, padded over the window": ((1, 4, 3, 2), 3, 2, (3, (0, 5)), FLOAT32),
    "3x3/2, one pixel": ((1, 4, 1, 1), 3, 2, (1, 1), FLOAT32),
    "5x5/2": ((1, 4, 9, 7), 5, 2, (2, 2), BFLOAT16),
    "5x5/2, asymmetric": ((2, 8, 4, 5), 5, 2, ((1, 2), (5, 0)), FLOAT32),
}
OTHERS = {
    "strides of 1 and 2": ((1, 8, 4, 5), (3, 3), (1, 2), (1, 1), (1, 1), FLOAT16),
    "a window of 2x3": ((1, 8, 4, 4), (2, 3), (1, 1), (1, 0), (1, 1), FLOAT32),
    "dilation": ((1, 4, 6, 5), (3, 3), (1, 1), (2, 1), (2, 1), FLOAT32),
    "7x7/2": ((1, 4, 8, 7), (7, 7), (2, 2), (3, 3), (1, 1), FLOAT32),
    "channels of no vector": ((1, 6, 4, 5), (5, 5), (1, 1), (2, 2), (1, 1), BFLOAT16),
}


def close(got, want, unit):
    assert got.shape == want.shape
    np.testing.assert_allclose(got.astype(np.float64), want, rtol=unit, atol=2.0**-19 * np.abs(want).max(initial=1))


def compare(shape, taps, stride, padding, dilation, dtype):
    """All directions against float64, and the epilogue's options; memory that is not written holds NaN."""
    kernels, rng = import_module("nnk.kernels.cuda"), np.random.default_rng(0)
    channels, unit = shape[1], UNITS[dtype]
    options = dict(stride=stride, padding=padding, dilation=dilation, groups=channels)
    x, weight = (rng.standard_normal(s).astype(dtype) for s in (shape, (channels, 1, *taps)))
    x64, weight64 = (a.astype(np.float64) for a in (x, weight))
    plain = reference.conv2d(x64, weight64, **options)
    dy, residual = (rng.standard_normal(plain.shape).astype(dtype) for _ in range(2))
    scale, bias = rng.standard_normal((2, channels)).astype(np.float32)
    dy64, scaled = dy.astype(np.float64), plain * scale[:, None, None]
    close(kernels.conv2d(x, weight, **options), plain, unit)
    y = kernels.conv2d(x, weight, bias, scale=scale, activation="relu", residual=residual, **options)
    close(y, np.maximum(scaled + bias[:, None, None] + residual.astype(np.float64), 0), unit)
    close(kernels.conv2d_dgrad(dy, weight, shape, **options),
          reference.conv2d_dgrad(dy64, weight64, shape, **options), unit)
    close(kernels.conv2d_wgrad(dy, x, weight.shape, **options),
          reference.conv2d_wgrad(dy64, x64, weight.shape, **options), UNITS[FLOAT32])




@pytest.mark.parametrize(("case", "backward"), [(case, i % 2 == 1) for i, case in enumerate(CASES)])
def test_cuda_square_windows(case, backward, monkeypatch):
    monkeypatch.setattr(import_module("cuda_simulator").order, "backward", backward)
    shape, size, stride, padding, dtype = CASES[case]
    assert _depthwise_square.supports(shape[1], (shape[1], 1, size, size), (stride, stride), (1, 1))
    compare(shape, (size, size), (stride, stride), padding, (1, 1), dtype)


@pytest.mark.parametrize("case", OTHERS)
def test_cuda_other_windows(case):
    shape, taps, stride, _, dilation, _ = OTHERS[case]
    assert not _depthwise_square.supports(shape[1], (shape[1], 1, *taps), stride, dilation)
    compare(*OTHERS[case])


def test_cuda_pixels_that_no_window_meets_do_not_count():
    """Neither for y nor for the gradient to the weight, even where they are infinite."""
    kernels, rng = import_module("nnk.kernels.cuda"), np.random.default_rng(0)
    x, weight = (rng.standard_normal(s).astype(np.float32) for s in ((1, 4, 6, 6), (4, 1, 3, 3)))
    dy, window = rng.standard_normal((1, 4, 2, 2)).astype(np.float32), dict(stride=(2, 2), groups=4)
    y, dweight = kernels.conv2d(x, weight, **window), kernels.conv2d_wgrad(dy, x, weight.shape, **window)
    x[:, :, -1] = x[..., -1] = np.inf
    assert np.array_equal(kernels.conv2d(x, weight, **window), y)
    assert np.array_equal(kernels.conv2d_wgrad(dy, x, weight.shape, **window), dweight)


@pytest.mark.parametrize(("shape", "size", "stride", "dtype", "backward"), [
    ((3, 36, 7, 9), 3, 1, FLOAT32, False), ((1, 4, 19, 6), 5, 1, FLOAT16, True),
    ((5, 4, 13, 10), 3, 2, BFLOAT16, False), ((1, 8, 1, 3), 5, 2, FLOAT32, True),
])  # fmt: skip
def test_cuda_statistics_of_a_depthwise_output(shape, size, stride, dtype, backward, monkeypatch):
    monkeypatch.setattr(import_module("cuda_simulator").order, "backward", backward)
    kernels, rng = import_module("nnk.kernels.cuda"), np.random.default_rng(0)
    channels, window = shape[1], dict(stride=(stride, stride), padding=(size // 2, size // 2), groups=shape[1])
    x, weight = (rng.standard_normal(s).astype(dtype) for s in (shape, (channels, 1, size, size)))
    bias = np.float32(1000) * rng.standard_normal(channels).astype(np.float32)  # a mean far beyond the deviations
    y, (counts, means, squares) = kernels.conv2d(x, weight, bias, statistics=True, **window)
    assert np.array_equal(y, kernels.conv2d(x, weight, bias, **window))
    values = y.astype(np.float64).transpose(1, 0, 2, 3).reshape(channels, -1)
    assert np.array_equal(counts.sum(0), [values.shape[1]] * channels)
    assert (counts > 0).all()
    mean = (counts * means).sum(0, dtype=np.float64) / values.shape[1]
    square = (squares + counts * (means.astype(np.float64) - mean) ** 2).sum(0)
    want = ((values - values.mean(1, keepdims=True)) ** 2).sum(1)
    np.testing.assert_allclose(mean, values.mean(1), rtol=2.0**-22, atol=1e-6)
    np.testing.assert_allclose(square, want, rtol=1e-3, atol=1e-30)  # lots' means are rounded, to 2⁻²⁴ of 1000


@pytest.mark.parametrize("itemsize", [2, 4])
@pytest.mark.parametrize("size", [14, 28, 56])
def test_cuda_depthwise_statistics_are_few(size, itemsize, monkeypatch):
    """12 bytes a channel and lot, beside its pixels in y."""
    taken = []
    kernels = {(3, stride): lambda *arguments: taken.append(arguments) for stride in (1, 2)}
    monkeypatch.setattr(_depthwise_square, "_SLIDE_STATISTICS", kernels)
    for stride in (1, 2):
        x, y = (np.zeros((8, 4, size * s, size * s), "f4") for s in (stride, 1))
        counts, _, _ = _depthwise_square.forward(x, np.zeros((4, 1, 3, 3), "f4"), y, (stride, stride), (1, 1),
                                                 statistics=True)
        assert 12 * counts.size <= 0.05 * itemsize * y.size
    assert len(taken) == 2


def test_cuda_no_statistics_of_the_widest_window():
    kernels = import_module("nnk.kernels.cuda")
    x, weight = np.ones((1, 4, 2, 2), np.float32), np.ones((4, 1, 7, 7), np.float32)
    y, statistics = kernels.conv2d(x, weight, padding=(3, 3), groups=4, statistics=True)
    assert statistics is None
    assert np.array_equal(y, np.full((1, 4, 2, 2), 4))
