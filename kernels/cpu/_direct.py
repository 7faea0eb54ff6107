"""Direct convolution on the register tile: the forward pass, and the gradient to the input as convolutions of dy.

One kernel serves every shape; which pixels a tap reads stands in tables (`_geometry.py`).

A job is a run of tiles of one image (or of a few small ones) by one block of output channels. Each weight panel is read
once a job and stays in L1 or L2; x is read once per block of output channels; y is written once.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from ._driver import FLOAT, INT, PTR, address, get_num_threads, job
from ._geometry import Geometry, forward_geometry, gradient_classes, images_a_job, tables, zeros
from ._kept import Filters
from ._memory import workspace
from ._pack import pack_backward, pack_forward
from ._tile import NARROW, THREES, WIDE, dot_tile, tile_for
from .simd import L, fload, fstore, vload_n, vstore_n

_KINDS = {WIDE: 0, THREES: 1, NARROW: 2}
(_MR0, _NV0), (_MR1, _NV1), (_MR2, _NV2) = WIDE, THREES, NARROW

JOB_FLOATS = 60_000  # input floats that a job's tiles touch: a quarter of a megabyte, half of a small L2
_WEIGHTS_IN_CACHE = 200_000  # panels above this many floats stay put while the images pass by, not the other way round


@job(kind=INT, x=PTR, x_images=INT, x_group=INT, offsets=PTR, pixels=INT, zeros=PTR, taps=INT, run=INT, w=PTR,
     panel=INT, bias=PTR, y=PTR, y_images=INT, places=PTR, channels=INT, width=INT, tile=INT, tiles=INT, chunk=INT,
     blocks=INT, groups=INT, images=INT, weights_stay=INT, floor=FLOAT)
def _convolve(first, last, thread, a):
    chunks = (a.tiles + a.chunk - 1) // a.chunk
    for j in range(first, last):
        if a.weights_stay:
            block = j // (a.images * chunks)
            part = j % (a.images * chunks)
        else:
            block = j % (a.groups * a.blocks)
            part = j // (a.groups * a.blocks)
        image = part // chunks
        group = block // a.blocks
        channel = block % a.blocks * a.width
        lanes = min(a.width, a.channels - channel)
        x = a.x + 4 * (image * a.x_images + group * a.x_group)
        y = a.y + 4 * (image * a.y_images + group * a.channels + channel)
        w = a.w + 4 * block * a.panel
        bias = a.bias + 4 * block * a.width
        start = part % chunks * a.chunk
        for t in range(start, min(a.tiles, start + a.chunk)):
            offsets = a.offsets + 4 * t * a.tile
            places = a.places + 4 * t * a.tile
            if a.kind == 0:
                dot_tile(_MR0, _NV0, x, offsets, a.pixels, a.zeros, a.taps, a.run, w, bias, y, places, lanes, a.floor)
            elif a.kind == 1:
                dot_tile(_MR1, _NV1, x, offsets, a.pixels, a.zeros, a.taps, a.run, w, bias, y, places, lanes, a.floor)
            else:
                dot_tile(_MR2, _NV2, x, offsets, a.pixels, a.zeros, a.taps, a.run, w, bias, y, places, lanes, a.floor)


Steps = list[tuple[Callable[..., None], int, int]]  # calls, and where in x and in y each of them begins, in bytes


def _plan(n: int, size: tuple[int, int], pixel: int, geometry: Geometry, threads: int, *, groups: int, run: int,
          x_group: int, channels: int, floor: float = -np.inf) -> Steps:
    """y[places] = convolution of n images of `size` pixels of `pixel` floats with packed panels.

    A tap takes `run` floats of a pixel; a group's are x_group floats further on, and make `channels` outputs. Outputs
    below `floor` are raised to it.
    """
    tile = tile_for(channels)
    width = tile[1] * L
    pixels = geometry.grid[0] * geometry.grid[1]
    joined = images_a_job(n, pixels)
    offsets, places = tables(joined, size, pixel, geometry, tile[0])
    taps, blocks, tiles, images = len(offsets), -(-channels // width), len(places) // tile[0], n // joined
    panel = taps * run * width
    chunk = max(1, JOB_FLOATS // (tile[0] * run * min(taps, 3)))
    if images * groups * blocks * -(-tiles // chunk) < 4 * threads:  # share a small problem out over all threads
        chunk = max(1, tiles * images * groups * blocks // (4 * threads))
    work = n * pixels * channels * groups * taps * run
    x_images, y_images = joined * size[0] * size[1] * pixel, joined * geometry.out[0]
    call = _convolve.plan(
        images * groups * blocks * -(-tiles // chunk), threads=max(1, min(threads, work // 1_000_000)),
        kind=_KINDS[tile], x_images=x_images, x_group=x_group, offsets=offsets, pixels=len(places), zeros=zeros(run),
        taps=taps, run=run, panel=panel, y_images=y_images, places=places, channels=channels, width=width,
        tile=tile[0], tiles=tiles, chunk=chunk, blocks=blocks, groups=groups, images=images,
        weights_stay=int(panel * blocks * groups > _WEIGHTS_IN_CACHE), floor=floor)
    rest = _plan(n % joined, size, pixel, geometry, threads, groups=groups, run=run, x_group=x_group,
                 channels=channels, floor=floor) if n % joined else []
    return [(call, 0, 0), *((other, 4 * images * x_images, 4 * images * y_images) for other, _, _ in rest)]


def _run(steps: Steps, x: np.ndarray, panels: np.ndarray, bias: np.ndarray, y: np.ndarray) -> None:
    for call, x_offset, y_offset in steps:
        call(x=address(x) + x_offset, w=panels, bias=bias, y=address(y) + y_offset)


def _start(bias: np.ndarray | None, groups: int, channels: int, width: int) -> np.ndarray:
    """Where the sums of the blocks of `width` output channels start."""
    padded = -(-channels // width) * width
    if bias is None:
        return zeros(groups * padded)
    start = np.zeros((groups, padded), np.float32)
    start[:, :channels] = bias.reshape(groups, channels)
    return start


@functools.lru_cache(512)
def _forward_plan(x_shape: tuple[int, ...], shape: tuple[int, ...], y_shape: tuple[int, ...], floor: float,
                  stride: tuple[int, int], before: tuple[int, int], dilation: tuple[int, int], groups: int,
                  threads: int) -> Steps:
    n, c, h, w = x_shape
    k, c_group, r, s = shape
    geometry = forward_geometry(y_shape, (r, s), stride, before, dilation)
    return _plan(n, (h, w), c, geometry, threads, groups=groups, run=c_group, x_group=c_group, channels=k // groups,
                 floor=floor)


def forward(x: np.ndarray, filters: Filters, bias: np.ndarray | None, y: np.ndarray, *, floor: float,
            stride: tuple[int, int], before: tuple[int, int], dilation: tuple[int, int], groups: int) -> None:
    """y = max(conv2d(x, filters) + bias, floor) for channels-last x, y; `before` is the padding above and to the left.
    """
    channels = filters.shape[0] // groups
    width = tile_for(channels)[1] * L
    panels = filters.packed(
        ("panels", groups, width), lambda weight: pack_forward(weight, groups, width, keep=filters.keep))
    steps = _forward_plan(
        x.shape, filters.shape, y.shape, floor, stride, before, dilation, groups, get_num_threads())
    _run(steps, x, panels, _start(bias, groups, channels, width), y)


@functools.lru_cache(512)
def _backward_plan(dy_shape: tuple[int, ...], shape: tuple[int, ...], x_shape: tuple[int, ...],
                   stride: tuple[int, int], before: tuple[int, int], dilation: tuple[int, int], groups: int,
                   threads: int) -> tuple[list[tuple[tuple[int, ...], Steps]], bool]:
    """For each class of input positions its taps and steps; whether there are positions in none."""
    k, c_group, r, s = shape
    n, _, oh, ow = dy_shape
    classes, gaps = gradient_classes(x_shape, (r, s), stride, before, dilation)
    return [(geometry.used, _plan(n, (oh, ow), k, geometry, threads, groups=groups, run=k // groups,
                                  x_group=k // groups, channels=c_group)) for geometry in classes], gaps


def backward(dy: np.ndarray, weight: np.ndarray, dx: np.ndarray, *, stride: tuple[int, int], before: tuple[int, int],
             dilation: tuple[int, int], groups: int) -> None:
    """dx = gradient of conv2d to its input, for channels-last dy, dx."""
    channels = weight.shape[1]
    width = tile_for(channels)[1] * L
    classes, gaps = _backward_plan(
        dy.shape, weight.shape, dx.shape, stride, before, dilation, groups, get_num_threads())
    if gaps:
        dx[...] = 0  # all of it: one sweep through memory is faster than the gaps alone
    for used, steps in classes:
        _run(steps, dy, pack_backward(weight, groups, width, used), _start(None, groups, channels, width), dx)


@functools.lru_cache(512)
def _few_plan(x_shape: tuple[int, ...], shape: tuple[int, ...], y_shape: tuple[int, ...], floor: float,
              stride: tuple[int, int], threads: int) -> tuple[Steps, tuple[int, int]]:
    """The steps, and the size of the padded images that they read."""
    n, c, _, _ = x_shape
    k, _, r, s = shape
    _, _, oh, ow = y_shape
    size = ((oh - 1) * stride[0] + r, (ow - 1) * stride[1] + s)
    geometry = forward_geometry(y_shape, (r, 1), stride, (0, 0), (1, 1))
    return _plan(n, size, c, geometry, threads, groups=1, run=s * c, x_group=0, channels=k, floor=floor), size


def forward_few(x: np.ndarray, filters: Filters, bias: np.ndarray | None, y: np.ndarray, *, floor: float,
                stride: tuple[int, int], before: tuple[int, int]) -> None:
    """The forward pass for a handful of input channels, no groups, no dilation, x of any strides.

    In a padded copy of x a filter row is one run of S * C floats: R long taps in place of R * S short ones.
    """
    k = filters.shape[0]
    width = tile_for(k)[1] * L
    panels = filters.packed(("rows", width), lambda weight: pack_forward(weight, 1, width, True, filters.keep))
    steps, size = _few_plan(x.shape, filters.shape, y.shape, floor, stride, get_num_threads())
    _run(steps, padded_copy(x, size, before), panels, _start(bias, 1, k, width), y)


@job(x=PTR, sn=INT, sc=INT, sh=INT, sw=INT, channels=INT, height=INT, width=INT, top=INT, left=INT, padded_height=INT,
     padded_width=INT, out=PTR)
def _pad_rows(first, last, thread, a):
    """A job is a row of the padded copy; x may have any strides."""
    row = a.padded_width * a.channels
    left = min(a.left * a.channels, row)
    inner = max(0, min(a.width * a.channels, row - left))
    for j in range(first, last):
        h = j % a.padded_height - a.top
        source = a.x + 4 * (j // a.padded_height * a.sn + h * a.sh)
        target = a.out + 4 * j * row
        begin, end = (left, left + inner) if h >= 0 and h < a.height else (row, row)
        for i in range(begin):
            fstore(target, i, 0)
        if a.sc == 1 and a.sw == a.channels:
            for i in range(begin, end, L):
                vstore_n(target, i, vload_n(source, i - left, end - i), end - i)
        else:
            for i in range(begin, end, a.channels):
                for c in range(a.channels):
                    fstore(target, i + c, fload(source, (i - left) // a.channels * a.sw + c * a.sc))
        for i in range(end, row):
            fstore(target, i, 0)


def padded_copy(x: np.ndarray, size: tuple[int, int], before: tuple[int, int]) -> np.ndarray:
    """x inside images of zeros of `size`, channels-last; what would lie past the right or lower edge is left out."""
    n, c, h, w = x.shape
    # Tiles read whole vectors of weights' rows but single floats of x: the slack serves the weight gradient.
    copy = workspace("padded", n * size[0] * size[1] * c + 4 * L)
    sn, sc, sh, sw = (stride // 4 for stride in x.strides)
    _pad_rows(n * size[0], threads=max(1, min(get_num_threads(), copy.size // 32768)), x=x, sn=sn, sc=sc, sh=sh, sw=sw,
              channels=c, height=h, width=w, top=before[0], left=before[1], padded_height=size[0],
              padded_width=size[1], out=copy)
    return copy
