"""The strict float32 gradient to the weight: both tiles, pixels in shares, and their choice."""

import numpy as np
import pytest

from nnk.kernels import reference
from nnk.kernels.cuda import _wgrad
from nnk.kernels.cuda._layout import channels_last
from nnk.kernels.cuda._numba import SIMULATED
from nnk.kernels.cuda._window import forward_axis
from nnk.kernels.shapes import conv_output_size

simulated = pytest.mark.skipif(not SIMULATED, reason="test_rungs.py has larger cases for a GPU")
SMALL, LARGE = (64, 64), (128, 128)
CASES = {  # x, weight, tile, and the rest of the convolution
    "elements": ((2, 3, 5, 7), (7, 3, 3, 3), SMALL, dict(padding=1)),
    "elements of two tiles": ((1, 23, 3, 2), (65, 23, 1, 3), SMALL, dict(padding=2)),
    "vectors": ((2, 8, 5, 7), (12, 8, 3, 3), SMALL, dict(padding=1)),
    "groups": ((1, 24, 9, 8), (72, 12, 3, 3), SMALL, dict(groups=2, padding=1, stride=2)),
    "large": ((2, 8, 5, 7), (12, 8, 3, 2), LARGE, dict(padding=1)),
    "large, of several tiles": ((3, 16, 3, 3), (132, 16, 3, 3), LARGE, dict(padding=2, dilation=2)),
    "large, strided, in groups": ((2, 8, 7, 6), (8, 4, 3, 3), LARGE, dict(groups=2, padding=1, stride=2)),
    "points": ((70, 20, 1, 1), (16, 20, 1, 1), LARGE, {}),
    "a row": ((2, 4, 1, 19), (4, 4, 1, 5), LARGE, dict(padding=0)),
}


def gradient(shape, weight_shape, tile, groups=1, stride=1, padding=0, dilation=1):
    """What the kernel gives, and float64."""
    options = dict(stride=(stride,) * 2, padding=(padding,) * 2, dilation=(dilation,) * 2)
    size = tuple(map(conv_output_size, shape[2:], weight_shape[2:], *options.values()))
    window = tuple(map(forward_axis, size, weight_shape[2:], *options.values()))
    rng = np.random.default_rng(0)
    x, dy = (rng.standard_normal(s, np.float32) for s in (shape, (shape[0], weight_shape[0], *size)))
    got = _wgrad.wgrad(channels_last(dy), channels_last(x), weight_shape, groups, window, tile=tile)
    want = reference.conv2d_wgrad(dy.astype(np.float64), x.astype(np.float64), weight_shape, groups=groups, **options)
    return got, want


def check(got, want):
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6 * np.abs(want).max())


@simulated
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_cuda_strict_wgrad(case, order):
    *shapes, options = case
    check(*gradient(*shapes, **options))


@simulated
@pytest.mark.parametrize("tile", [SMALL, LARGE])
@pytest.mark.parametrize("least", [40, 17])
def test_cuda_strict_wgrad_in_uneven_shares(tile, least, monkeypatch):
    monkeypatch.setattr(_wgrad, "LEAST_SHARE", least)
    assert 101 // _wgrad.shares((4, 4, 1, 1), 1, 101, tile) >= least  # all pixels have their share
    got, want = gradient((101, 4, 1, 1), (4, 4, 1, 1), tile)
    check(got, want)
    assert np.array_equal(got, gradient((101, 4, 1, 1), (4, 4, 1, 1), tile)[0])


@simulated
def test_cuda_strict_wgrad_of_no_pixels_is_zero():
    got, _ = gradient((0, 4, 3, 3), (8, 4, 3, 3), LARGE, padding=1)
    assert not got.any()


def tiles(images, size, filters, channels, taps=3, groups=1):
    window = (forward_axis(size, taps, 1, taps // 2, 1),) * 2
    return _wgrad.wgrad_tiles((images, channels, size, size), (filters, channels // groups, taps, taps), groups, window)


def test_cuda_strict_wgrad_takes_the_large_tile_where_it_fills_the_card():
    assert tiles(64, 56, 128, 128) == tiles(64, 14, 256, 256) == tiles(4096, 1, 2048, 1024, 1) == [LARGE, SMALL]
    assert tiles(64, 56, 64, 64) == [SMALL, LARGE]  # half of its rows would be empty
    assert tiles(1, 7, 512, 512) == tiles(128, 1, 1000, 2048, 1) == [SMALL, LARGE]  # too few blocks
    assert tiles(64, 56, 128, 126) == tiles(64, 56, 136, 136, groups=4)[:1] == [SMALL]


def test_cuda_strict_wgrad_shares_leave_no_round_of_blocks_nearly_empty():
    for tile, at_once in ((LARGE, 264), (SMALL, 396)):
        for filters in range(tile[0], 64 * tile[0], tile[0]):
            blocks = filters // tile[0] * _wgrad.shares((filters, 4, 1, 1), 1, 10**6, tile)
            assert blocks / at_once >= 0.75 * -(-blocks // at_once)


@simulated
def test_cuda_strict_wgrad_refuses_more_pixels_than_its_numbers_hold():
    window = (forward_axis(1 << 16, 1, 1, 0, 1), forward_axis(1 << 15, 1, 1, 0, 1))
    x, dy = (np.broadcast_to(np.float32(0), (1, 4, 1 << 16, 1 << 15)) for _ in range(2))
    with pytest.raises(OverflowError, match="pixels"):
        _wgrad.wgrad(dy, x, (4, 4, 1, 1), 1, window, tile=SMALL)


@pytest.mark.parametrize("parts", [1, _wgrad.SERIAL, _wgrad.SERIAL + 1, 100])
def test_cuda_sums_of_shares_are_added(parts, device):
    partial = np.random.default_rng(1).standard_normal((parts, 5, 4 * 8)).astype(np.float32)
    found = device.get(_wgrad.add_parts(device.put(partial), (5, 7, 2, 2)))  # 7 channels, padded to 8
    want = partial.astype(np.float64).sum(0).reshape(5, 4, 8)[..., :7].transpose(0, 2, 1).reshape(5, 7, 2, 2)
    np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-6 * parts)
