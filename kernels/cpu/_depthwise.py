"""Depthwise convolution: one input channel per group, so lanes run over channels and a pixel is one FMA a tap.

A job takes L channels of an image. It copies them between borders of zeros, pixel by pixel, L floats each; there
every tap of every output pixel is one load at a constant distance, with up to MR pixels of a row in registers. x is read
once, y written once; 2 R S FLOPs an output.

The gradient to the input is the same on dy, one small convolution for each class of positions (`_geometry.py`). The
weight gradient keeps one sum per tap in registers. With a channel multiplier M (K = M * C) the input is first repeated
M times per channel.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

import numpy as np
from numba import njit

from ._driver import INT, PTR, get_num_threads, job, share
from ._geometry import Geometry, forward_geometry, gradient_classes
from ._layout import empty_image
from ._memory import workspace
from ._tile import lane_sums, lane_tile
from .simd import L, lload, vload_n, vsplat, vstore

_TAPS = 9  # sums that the weight gradient holds in registers: a 3 x 3 filter
_FIELDS = 15


@njit
def _clear(padded, pixels):
    for i in range(pixels):
        vstore(padded, i * L, vsplat(np.float32(0)))


@njit
def _copy_channels(x, n, c, k, h, w, low_h, low_w, padded_h, padded_w, padded):
    """L channels from c of image n: x[row, column] goes to padded[row - low_h, column - low_w]; borders stay."""
    for i in range(max(0, low_h), min(h, low_h + padded_h)):
        source = x + 4 * ((n * h + i) * w * k + c)
        target = padded + 4 * ((i - low_h) * padded_w - low_w) * L
        for j in range(max(0, low_w), min(w, low_w + padded_w)):
            vstore(target, j * L, vload_n(source, j * k, k - c))


@job(x=PTR, n=INT, k=INT, h=INT, w=INT, low_h=INT, low_w=INT, padded_h=INT, padded_w=INT, padded=PTR, weight=PTR,
     taps=INT, bias=PTR, y=PTR, y_images=INT, classes=PTR, count=INT)
def _convolve(first, last, thread, a):
    """A job is L channels of an image; `classes` holds `_FIELDS` numbers for each of the `count` output grids."""
    vectors = (a.k + L - 1) // L
    padded = a.padded + 4 * thread * a.padded_h * a.padded_w * L
    _clear(padded, a.padded_h * a.padded_w)
    for j in range(first, last):
        n, c = j // vectors, j % vectors * L
        lanes = a.k - c
        _copy_channels(a.x, n, c, a.k, a.h, a.w, a.low_h, a.low_w, a.padded_h, a.padded_w, padded)
        weight = a.weight + 4 * c * a.taps
        bias = a.bias + 4 * c
        for g in range(a.count):
            f = a.classes + 8 * _FIELDS * g
            grid_w, rows, columns, x_pixel, y_pixel = lload(f, 1), lload(f, 5), lload(f, 6), lload(f, 4), lload(f, 14)
            x_row, x_column, w_row, w_column = lload(f, 7), lload(f, 8), lload(f, 10), lload(f, 11)
            w = weight + 4 * lload(f, 9)
            for i in range(lload(f, 0)):
                x = padded + 4 * (lload(f, 2) + i * lload(f, 3))
                y = a.y + 4 * (n * a.y_images + lload(f, 12) + i * lload(f, 13) + c)
                q = 0
                while q < grid_w:
                    if q + 8 <= grid_w:
                        lane_tile(8, rows, columns, x + 4 * q * x_pixel, x_row, x_column, x_pixel, w, w_row, w_column,
                                  bias, y + 4 * q * y_pixel, y_pixel, lanes)
                        q += 8
                    elif grid_w >= 4:
                        q = min(q, grid_w - 4)  # over pixels already done rather than one by one
                        lane_tile(4, rows, columns, x + 4 * q * x_pixel, x_row, x_column, x_pixel, w, w_row, w_column,
                                  bias, y + 4 * q * y_pixel, y_pixel, lanes)
                        q += 4
                    else:
                        lane_tile(1, rows, columns, x + 4 * q * x_pixel, x_row, x_column, x_pixel, w, w_row, w_column,
                                  bias, y + 4 * q * y_pixel, y_pixel, lanes)
                        q += 1


@job(dy=PTR, x=PTR, sums=PTR, shares=INT, n=INT, k=INT, taps=INT, h=INT, w=INT, oh=INT, ow=INT, stride_h=INT,
     stride_w=INT, low_h=INT, low_w=INT, padded_h=INT, padded_w=INT, offsets=PTR, padded=PTR)
def _weight_sums(first, last, thread, a):
    """A job is L channels of a share of the images; sums [share][vector of channels][tap][L]."""
    vectors = (a.k + L - 1) // L
    padded = a.padded + 4 * thread * a.padded_h * a.padded_w * L
    _clear(padded, a.padded_h * a.padded_w)
    for j in range(first, last):
        part, c = j // vectors, j % vectors * L
        sums = a.sums + 4 * j * a.taps * L
        _clear(sums, a.taps)
        for n in range(part * a.n // a.shares, (part + 1) * a.n // a.shares):
            _copy_channels(a.x, n, c, a.k, a.h, a.w, a.low_h, a.low_w, a.padded_h, a.padded_w, padded)
            for t in range(0, a.taps, _TAPS):
                lane_sums(_TAPS, a.oh, a.ow, padded, a.offsets + 4 * t, a.stride_h * a.padded_w * L, a.stride_w * L,
                          a.dy + 4 * (n * a.oh * a.ow * a.k + c), a.ow * a.k, a.k, a.k - c, sums + 4 * t * L)


def _repeated(x: np.ndarray, multiplier: int) -> np.ndarray:
    """x with every channel `multiplier` times, channels-last."""
    if multiplier == 1:
        return x
    n, c, h, w = x.shape
    copy = empty_image(n, c * multiplier, h, w)
    copy.transpose(0, 2, 3, 1).reshape(n, h, w, c, multiplier)[...] = x.transpose(0, 2, 3, 1)[..., None]
    return copy


def _span(geometries: Iterable[Geometry], axis: int) -> tuple[int, int]:
    """First input position that any tap reads along an axis, and how many there are up to the last."""
    offsets = [(g.grid[axis], g.step[axis], (g.rows, g.columns)[axis]) for g in geometries]
    low = min(min(taps) for _, _, taps in offsets)
    return low, max((count - 1) * step + max(taps) for count, step, taps in offsets) - low + 1


@functools.lru_cache(512)
def _plan(geometries: tuple[Geometry, ...], columns: int) -> tuple[np.ndarray, dict[str, int]]:
    """The numbers of each output grid as `_convolve` reads them, and the padded copy that all of them share."""
    (low_h, padded_h), (low_w, padded_w) = (_span(geometries, axis) for axis in (0, 1))
    classes = []
    for g in geometries:
        # Taps of one class are evenly spaced, in the input and in the filter.
        step_h, step_w = ((taps[1] - taps[0]) if len(taps) > 1 else 0 for taps in (g.rows, g.columns))
        row, column = divmod(g.used[0], columns)
        next_column = g.used[1] - g.used[0] if len(g.columns) > 1 else 0
        next_row = g.used[len(g.columns)] // columns - row if len(g.rows) > 1 else 0
        classes.append((
            *g.grid, ((g.rows[0] - low_h) * padded_w + g.columns[0] - low_w) * L, g.step[0] * padded_w * L,
            g.step[1] * L, len(g.rows), len(g.columns), step_h * padded_w * L, step_w * L, (row * columns + column) * L,
            next_row * columns * L, next_column * L, g.out[3], g.out[1], g.out[2]))
    copy = {"low_h": low_h, "low_w": low_w, "padded_h": padded_h, "padded_w": padded_w}
    return np.array(classes, np.int64), copy


def _run(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, y: np.ndarray,
         geometries: tuple[Geometry, ...]) -> None:
    """Every grid of y from x of as many channels."""
    n, k, h, w = x.shape
    taps, vectors = weight[0].size, -(-k // L)
    classes, copy = _plan(geometries, weight.shape[3])
    packed = np.zeros((vectors, L, taps), np.float32)
    packed.reshape(-1, taps)[:k] = weight.reshape(k, taps)
    start = np.zeros(vectors * L, np.float32)
    if bias is not None:
        start[:k] = bias
    threads = share(y.size * taps // 2)
    _convolve(n * vectors, threads=threads, x=x, n=n, k=k, h=h, w=w, **copy,
              padded=workspace("depthwise x", threads * copy["padded_h"] * copy["padded_w"] * L),
              weight=np.ascontiguousarray(packed.swapaxes(1, 2)), taps=taps, bias=start, y=y,
              y_images=geometries[0].out[0], classes=classes, count=len(classes))


def forward(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, y: np.ndarray, *, stride: tuple[int, int],
            before: tuple[int, int], dilation: tuple[int, int]) -> None:
    """y = depthwise conv2d(x, weight) + bias for channels-last x, y."""
    geometry = forward_geometry(y.shape, weight.shape[2:], stride, before, dilation)
    _run(_repeated(x, y.shape[1] // x.shape[1]), weight, bias, y, (geometry,))


def backward(dy: np.ndarray, weight: np.ndarray, dx: np.ndarray, *, stride: tuple[int, int], before: tuple[int, int],
             dilation: tuple[int, int]) -> None:
    """dx of depthwise conv2d for channels-last dy, dx."""
    n, c, h, w = dx.shape
    k = dy.shape[1]
    target = dx if k == c else empty_image(n, k, h, w)
    classes = tuple(gradient_classes(target, weight.shape[2:], stride, before, dilation))
    if classes:
        _run(dy, weight, None, target, classes)
    if target is not dx:
        target.transpose(0, 2, 3, 1).reshape(n, h, w, c, k // c).sum(-1, out=dx.transpose(0, 2, 3, 1))


@functools.lru_cache(256)
def _tap_offsets(kernel: tuple[int, int], dilation: tuple[int, int], pitch: int) -> np.ndarray:
    """Offset of every tap in padded pixels of L floats; the last repeats to a multiple of `_TAPS`."""
    r, s = np.ogrid[: kernel[0], : kernel[1]]
    offsets = ((r * dilation[0] * pitch + s * dilation[1]) * L).ravel()
    return np.append(offsets, np.repeat(offsets[-1], -len(offsets) % _TAPS)).astype(np.int32)


def weight_gradient(dy: np.ndarray, x: np.ndarray, dweight: np.ndarray, *, stride: tuple[int, int],
                    before: tuple[int, int], dilation: tuple[int, int]) -> None:
    """dweight of depthwise conv2d for channels-last dy, x."""
    n, k, oh, ow = dy.shape
    _, c, h, w = x.shape
    _, _, r, s = dweight.shape
    _, copy = _plan((forward_geometry(dy.shape, (r, s), stride, before, dilation),), s)
    offsets = _tap_offsets((r, s), dilation, copy["padded_w"])
    shares, vectors, taps = min(get_num_threads(), n), -(-k // L), len(offsets)
    sums = workspace("depthwise sums", shares * vectors * taps * L)
    threads = share(dy.size * r * s)
    _weight_sums(shares * vectors, threads=threads, dy=dy, x=_repeated(x, k // c), sums=sums, shares=shares, n=n, k=k,
                 taps=taps, h=h, w=w, oh=oh, ow=ow, stride_h=stride[0], stride_w=stride[1], **copy, offsets=offsets,
                 padded=workspace("depthwise x", threads * copy["padded_h"] * copy["padded_w"] * L))
    total = sums[: shares * vectors * taps * L].reshape(shares, vectors, taps, L).sum(0)[:, : r * s]
    dweight.reshape(k, r * s)[...] = total.swapaxes(1, 2).reshape(vectors * L, r * s)[:k]
