"""Direct convolution on the register tile: the forward pass, and the gradient to the input as convolutions of dy.

One kernel serves every shape. Which input pixel a tap of an output pixel reads is a table of offsets, made once per
geometry: -1 stands for a row of zeros (the padding). So stride, dilation, borders, 1x1 filters and maps smaller than a
tile are all the same straight loop, and a tile may run over the end of a row into the next row or image.

A job is a run of tiles of one image (or of a few small ones) by one block of output channels. Each weight panel is read
once a job and stays in L1 or L2; x is read once per block of output channels; y is written once.
"""

from __future__ import annotations

import functools

import numpy as np

from ._driver import INT, PTR, get_num_threads, job
from ._memory import workspace
from ._pack import pack_backward, pack_forward
from ._tile import NARROW, THREES, WIDE, dot_tile, tile_for
from .simd import L, fload, fstore, vload_n, vstore_n

_KINDS = {WIDE: 0, THREES: 1, NARROW: 2}
(_MR0, _NV0), (_MR1, _NV1), (_MR2, _NV2) = WIDE, THREES, NARROW

_JOB_FLOATS = 60_000  # input floats that a job's tiles touch: a quarter of a megabyte, half of a small L2
_WEIGHTS_IN_CACHE = 200_000  # panels above this many floats stay put while the images pass by, not the other way round
_SMALL_MAP = 512  # maps of fewer pixels are joined until a job has about as many


@job(kind=INT, x=PTR, x_images=INT, x_group=INT, offsets=PTR, pixels=INT, zeros=PTR, taps=INT, run=INT, w=PTR,
     panel=INT, bias=PTR, y=PTR, y_images=INT, places=PTR, channels=INT, width=INT, tile=INT, tiles=INT, chunk=INT,
     blocks=INT, groups=INT, images=INT, weights_stay=INT)
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
                dot_tile(_MR0, _NV0, x, offsets, a.pixels, a.zeros, a.taps, a.run, w, bias, y, places, lanes)
            elif a.kind == 1:
                dot_tile(_MR1, _NV1, x, offsets, a.pixels, a.zeros, a.taps, a.run, w, bias, y, places, lanes)
            else:
                dot_tile(_MR2, _NV2, x, offsets, a.pixels, a.zeros, a.taps, a.run, w, bias, y, places, lanes)


@functools.lru_cache(512)
def _tables(images: int, size: tuple[int, int], pixel: int, grid: tuple[int, int], step: tuple[int, int],
            rows: tuple[int, ...], columns: tuple[int, ...], out: tuple[int, int, int, int], tile: int):
    """Offsets of every (tap, output pixel) in x and places of the output pixels in y, both int32, in floats.

    Output (i, j) of the grid reads the input pixels (i * step + rows[r], j * step + columns[s]); `out` = the pitches of
    an image, a row and a pixel of y and where the first lies. The tail of the last tile repeats the last pixel.
    """
    (height, width), (oh, ow) = size, grid
    count = images * oh * ow
    p = np.minimum(np.arange(-(-count // tile) * tile), count - 1)
    n, i, j = p // (oh * ow), p // ow % oh, p % ow
    ih = i * step[0] + np.array(rows)[:, None]
    iw = j * step[1] + np.array(columns)[:, None]
    inside = ((ih >= 0) & (ih < height))[:, None] & ((iw >= 0) & (iw < width))[None]
    offsets = ((n * height + ih[:, None]) * width + iw[None]) * pixel
    places = n * out[0] + i * out[1] + j * out[2] + out[3]
    if max(images * height * width * pixel, int(places.max())) >= 2**31:
        raise ValueError(f"an image of {height} x {width} pixels with {pixel} channels has more than 2**31 elements")
    table = np.where(inside, offsets, -1).reshape(len(rows) * len(columns), -1)
    return np.ascontiguousarray(table, np.int32), np.ascontiguousarray(places, np.int32)


def _images_a_job(n: int, pixels: int) -> int:
    """The largest divisor of n images whose maps together have at most `_SMALL_MAP` pixels."""
    most = max(1, _SMALL_MAP // pixels)
    return next(d for d in range(min(n, most), 0, -1) if n % d == 0)


@functools.cache
def _zeros(floats: int) -> np.ndarray:
    return np.zeros(floats + L, np.float32)


def _run(x: np.ndarray, size: tuple[int, int], pixel: int, panels: np.ndarray, bias: np.ndarray | None, y: np.ndarray,
         *, groups: int, taps_run: int, x_group: int, channels: int, grid: tuple[int, int], step: tuple[int, int],
         rows: tuple[int, ...], columns: tuple[int, ...], out: tuple[int, int, int, int]) -> None:
    """y[places] = convolution of x (n images of `size` pixels of `pixel` floats) with packed panels, per group."""
    n = y.shape[0]
    tile = tile_for(channels)
    width = tile[1] * L
    joined = _images_a_job(n, grid[0] * grid[1])
    offsets, places = _tables(joined, size, pixel, grid, step, rows, columns, out, tile[0])
    taps, blocks, tiles = len(offsets), -(-channels // width), len(places) // tile[0]
    panel = taps * taps_run * width
    chunk = max(1, _JOB_FLOATS // (tile[0] * taps_run * min(taps, 3)))
    images = n // joined
    fewest = 4 * get_num_threads()
    if images * groups * blocks * -(-tiles // chunk) < fewest:  # share a small problem out over all threads
        chunk = max(1, tiles * images * groups * blocks // fewest)
    if bias is None:
        start = _zeros(groups * blocks * width)
    else:
        start = np.zeros((groups, blocks * width), np.float32)
        start[:, :channels] = bias.reshape(groups, channels)
    jobs = images * groups * blocks * -(-tiles // chunk)
    work = n * grid[0] * grid[1] * channels * groups * taps * taps_run
    _convolve(
        jobs, threads=max(1, min(get_num_threads(), work // 1_000_000)), kind=_KINDS[tile], x=x,
        x_images=joined * size[0] * size[1] * pixel, x_group=x_group, offsets=offsets, pixels=len(places),
        zeros=_zeros(taps_run), taps=taps, run=taps_run, w=panels, panel=panel, bias=start, y=y,
        y_images=joined * out[0], places=places, channels=channels, width=width, tile=tile[0], tiles=tiles, chunk=chunk,
        blocks=blocks, groups=groups, images=images, weights_stay=int(panel * blocks * groups > _WEIGHTS_IN_CACHE))


# ---------------------------------------------------------------- forward
def forward(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, y: np.ndarray, *, stride: tuple[int, int],
            before: tuple[int, int], dilation: tuple[int, int], groups: int) -> None:
    """y = conv2d(x, weight) + bias for channels-last x, y; `before` is the padding above and to the left."""
    _, c, h, w = x.shape
    k, c_group, r, s = weight.shape
    _, _, oh, ow = y.shape
    out = (oh * ow * k, ow * k, k, 0)
    width = tile_for(k // groups)[1] * L
    rows = tuple(i * dilation[0] - before[0] for i in range(r))
    columns = tuple(i * dilation[1] - before[1] for i in range(s))
    _run(x, (h, w), c, pack_forward(weight, groups, width), bias, y, groups=groups, taps_run=c_group, x_group=c_group,
         channels=k // groups, grid=(oh, ow), step=stride, rows=rows, columns=columns, out=out)


def forward_few(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, y: np.ndarray, *, stride: tuple[int, int],
                before: tuple[int, int]) -> None:
    """The same for a handful of input channels, no groups, no dilation, x of any strides.

    In a padded copy of x a filter row is one run of S * C floats: R long taps in place of R * S short ones.
    """
    c = x.shape[1]
    k, _, r, s = weight.shape
    _, _, oh, ow = y.shape
    size = ((oh - 1) * stride[0] + r, (ow - 1) * stride[1] + s)
    padded = padded_copy(x, size, before)
    width = tile_for(k)[1] * L
    _run(padded, size, c, pack_forward(weight, 1, width, merged=True), bias, y, groups=1, taps_run=s * c, x_group=0,
         channels=k, grid=(oh, ow), step=stride, rows=tuple(range(r)), columns=(0,), out=(oh * ow * k, ow * k, k, 0))


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


# ---------------------------------------------------------------- gradient to the input
def _taps_of(phase: int, length: int, kernel: int, stride: int, dilation: int, before: int):
    """For the input positions h = phase + stride * i: how many there are, their filter taps r, and dy's offset from i.

    Position h gets a share from output (h + before - r * dilation) / stride wherever that is whole.
    """
    taps = [r for r in range(kernel) if (phase + before - r * dilation) % stride == 0]
    offsets = [(phase + before - r * dilation) // stride for r in taps]
    return len(range(phase, length, stride)), taps, offsets


def backward(dy: np.ndarray, weight: np.ndarray, dx: np.ndarray, *, stride: tuple[int, int], before: tuple[int, int],
             dilation: tuple[int, int], groups: int) -> None:
    """dx = gradient of conv2d to its input, for channels-last dy, dx.

    At stride 1 this is one convolution of dy with the filters turned round. At stride (sh, sw) the input positions fall
    into sh * sw classes by their remainders, and each is a small convolution with the taps that reach it: no zero is
    ever multiplied.
    """
    _, c, h, w = dx.shape
    k, c_group, r, s = weight.shape
    _, _, oh, ow = dy.shape
    width = tile_for(c_group)[1] * L
    for ph in range(stride[0]):
        height, tap_rows, rows = _taps_of(ph, h, r, stride[0], dilation[0], before[0])
        for pw in range(stride[1]):
            breadth, tap_columns, columns = _taps_of(pw, w, s, stride[1], dilation[1], before[1])
            if not height or not breadth:
                continue
            if not tap_rows or not tap_columns:
                dx[:, :, ph :: stride[0], pw :: stride[1]] = 0
                continue
            used = tuple(i * s + j for i in tap_rows for j in tap_columns)
            out = (h * w * c, stride[0] * w * c, stride[1] * c, (ph * w + pw) * c)
            _run(dy, (oh, ow), k, pack_backward(weight, groups, width, used), None, dx, groups=groups,
                 taps_run=k // groups, x_group=k // groups, channels=c_group, grid=(height, breadth), step=(1, 1),
                 rows=tuple(rows), columns=tuple(columns), out=out)
