"""Depthwise convolution: one input channel per group, so lanes run over channels and a pixel is one FMA a tap.

With a channel multiplier M (K = M * C) the input is first repeated M times per channel. Memory-bound at best: x is read
once and y written once, the rows of x that several filter rows need stay in L1 and L2.

The geometry is that of all convolutions (`_geometry.py`). The
weight gradient copies L channels of an image at a time between borders of zeros, so that every tap is the same box.
"""

from __future__ import annotations

import functools

import numpy as np

from ._direct import JOB_FLOATS
from ._driver import INT, PTR, get_num_threads, job, share
from ._geometry import Geometry, forward_geometry, gradient_classes, images_a_job, tables, zeros
from ._layout import empty_image
from ._memory import workspace
from ._tile import lane_sums, lane_tile
from .simd import L, vload_n, vsplat, vstore

# (pixels, vectors of channels): offsets are looked up once for all vectors of a pixel.
_WIDE, _NARROW = (4, 4), (8, 1)
(_MR0, _NV0), (_MR1, _NV1) = _WIDE, _NARROW
_TAPS = 9  # sums that the weight gradient holds in registers: a 3 x 3 filter


@job(wide=INT, x=PTR, x_images=INT, offsets=PTR, pixels=INT, zeros=PTR, taps=INT, w=PTR, k_pad=INT, bias=PTR, y=PTR,
     y_images=INT, places=PTR, k=INT, tile=INT, tiles=INT, chunk=INT)
def _convolve(first, last, thread, a):
    """A job is a run of tiles of one image, or of a few small ones, all channels."""
    chunks = (a.tiles + a.chunk - 1) // a.chunk
    width = _NV0 * L if a.wide else L
    for j in range(first, last):
        x = a.x + 4 * (j // chunks) * a.x_images
        y = a.y + 4 * (j // chunks) * a.y_images
        start = j % chunks * a.chunk
        for c in range(0, a.k, width):
            for t in range(start, min(a.tiles, start + a.chunk)):
                offsets = a.offsets + 4 * t * a.tile
                places = a.places + 4 * t * a.tile
                if a.wide:
                    lane_tile(_MR0, _NV0, x + 4 * c, offsets, a.pixels, a.zeros, a.taps, a.w + 4 * c, a.k_pad,
                              a.bias + 4 * c, y + 4 * c, places, a.k - c)
                else:
                    lane_tile(_MR1, _NV1, x + 4 * c, offsets, a.pixels, a.zeros, a.taps, a.w + 4 * c, a.k_pad,
                              a.bias + 4 * c, y + 4 * c, places, a.k - c)


@job(dy=PTR, x=PTR, sums=PTR, shares=INT, n=INT, k=INT, taps=INT, h=INT, w=INT, oh=INT, ow=INT, stride_h=INT,
     stride_w=INT, top=INT, left=INT, padded_h=INT, padded_w=INT, offsets=PTR, padded=PTR)
def _weight_sums(first, last, thread, a):
    """A job is L channels of a share of the images; sums [share][vector of channels][tap][L]."""
    vectors = (a.k + L - 1) // L
    zero = vsplat(np.float32(0))
    size = a.padded_h * a.padded_w
    padded = a.padded + 4 * thread * size * L
    for i in range(size):
        vstore(padded, i * L, zero)
    for j in range(first, last):
        part, c = j // vectors, j % vectors * L
        lanes = a.k - c
        sums = a.sums + 4 * j * a.taps * L
        for t in range(a.taps):
            vstore(sums, t * L, zero)
        for n in range(part * a.n // a.shares, (part + 1) * a.n // a.shares):
            source = a.x + 4 * (n * a.h * a.w * a.k + c)
            for h in range(min(a.h, a.padded_h - a.top)):
                for w in range(min(a.w, a.padded_w - a.left)):
                    target = (h + a.top) * a.padded_w + w + a.left
                    vstore(padded, target * L, vload_n(source, (h * a.w + w) * a.k, lanes))
            for t in range(0, a.taps, _TAPS):
                lane_sums(_TAPS, a.oh, a.ow, padded, a.offsets + 4 * t, a.stride_h * a.padded_w * L, a.stride_w * L,
                          a.dy + 4 * (n * a.oh * a.ow * a.k + c), a.ow * a.k, a.k, lanes, sums + 4 * t * L)


def _repeated(x: np.ndarray, multiplier: int) -> np.ndarray:
    """x with every channel `multiplier` times, channels-last."""
    if multiplier == 1:
        return x
    n, c, h, w = x.shape
    copy = empty_image(n, c * multiplier, h, w)
    copy.transpose(0, 2, 3, 1).reshape(n, h, w, c, multiplier)[...] = x.transpose(0, 2, 3, 1)[..., None]
    return copy


def _run(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, y: np.ndarray, geometry: Geometry) -> None:
    """y[places] = bias + the taps of `geometry`, for equal channels of x and y."""
    n, k, h, w = x.shape
    wide = k > 2 * L
    tile = (_WIDE if wide else _NARROW)[0]
    joined = images_a_job(n, geometry.grid[0] * geometry.grid[1])
    offsets, places = tables(joined, (h, w), k, geometry, tile)
    k_pad = -(-k // (_NV0 * L)) * _NV0 * L
    packed = np.zeros((len(offsets), k_pad), np.float32)
    packed[:, :k] = weight.reshape(k, -1)[:, geometry.used].T
    start = np.zeros(k_pad, np.float32)
    if bias is not None:
        start[:k] = bias
    tiles = len(places) // tile
    chunk = max(1, min(JOB_FLOATS // (tile * k), tiles * n // joined // (4 * get_num_threads())))
    _convolve(n // joined * -(-tiles // chunk), threads=share(y.size * len(offsets) // 2), wide=int(wide), x=x,
              x_images=joined * h * w * k, offsets=offsets, pixels=len(places), zeros=zeros(_NV0 * L),
              taps=len(offsets), w=packed, k_pad=k_pad, bias=start, y=y, y_images=joined * geometry.out[0],
              places=places, k=k, tile=tile, tiles=tiles, chunk=chunk)


def forward(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, y: np.ndarray, *, stride: tuple[int, int],
            before: tuple[int, int], dilation: tuple[int, int]) -> None:
    """y = depthwise conv2d(x, weight) + bias for channels-last x, y."""
    geometry = forward_geometry(y.shape, weight.shape[2:], stride, before, dilation)
    _run(_repeated(x, y.shape[1] // x.shape[1]), weight, bias, y, geometry)


def backward(dy: np.ndarray, weight: np.ndarray, dx: np.ndarray, *, stride: tuple[int, int], before: tuple[int, int],
             dilation: tuple[int, int]) -> None:
    """dx of depthwise conv2d for channels-last dy, dx."""
    n, c, h, w = dx.shape
    k = dy.shape[1]
    target = dx if k == c else empty_image(n, k, h, w)
    for geometry in gradient_classes(target, weight.shape[2:], stride, before, dilation):
        _run(dy, weight, None, target, geometry)
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
    padded_h, padded_w = ((count - 1) * step + (size - 1) * gap + 1
                          for count, step, size, gap in zip((oh, ow), stride, (r, s), dilation))
    offsets = _tap_offsets((r, s), dilation, padded_w)
    shares, vectors, taps = min(get_num_threads(), n), -(-k // L), len(offsets)
    sums = workspace("depthwise sums", shares * vectors * taps * L)
    threads = share(dy.size * r * s)
    _weight_sums(shares * vectors, threads=threads, dy=dy, x=_repeated(x, k // c), sums=sums, shares=shares, n=n, k=k,
                 taps=taps, h=h, w=w, oh=oh, ow=ow, stride_h=stride[0], stride_w=stride[1], top=before[0],
                 left=before[1], padded_h=padded_h, padded_w=padded_w, offsets=offsets,
                 padded=workspace("depthwise x", threads * padded_h * padded_w * L))
    total = sums[: shares * vectors * taps * L].reshape(shares, vectors, taps, L).sum(0)[:, : r * s]
    dweight.reshape(k, r * s)[...] = total.swapaxes(1, 2).reshape(vectors * L, r * s)[:k]
