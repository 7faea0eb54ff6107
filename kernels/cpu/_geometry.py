"""Which input pixels an output pixel of a convolution reads, as tables for the register tiles.

A tile runs over the pixels of an output grid as they lie in memory, across the ends of rows and of small images. For
every tap and pixel a table holds the offset of the input pixel, -1 being a row of zeros (the padding). So stride,
dilation, borders, 1x1 filters and maps smaller than a tile are all the same straight loop.

The gradient to the input is made of convolutions of dy: at stride 1 of one, with the filters turned round; at stride
(sh, sw) of sh * sw, one for each class of input positions by remainder, with the taps that reach it, so that no zero of
a dilated dy is ever multiplied.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from .simd import L

_SMALL_MAP = 512  # maps of fewer pixels are joined until a job has about as many


class Geometry(NamedTuple):
    """Output (i, j) of `grid` reads the input pixels (i, j) * step + (rows[r], columns[s]).

    `used` are the numbers of these taps in the filter; `out` holds the pitches of an image, a row and a pixel of the
    output, and where its first pixel lies, all in floats.
    """

    grid: tuple[int, int]
    step: tuple[int, int]
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    used: tuple[int, ...]
    out: tuple[int, int, int, int]


def forward_geometry(y_shape: tuple[int, ...], kernel: tuple[int, int], stride: tuple[int, int],
                     before: tuple[int, int], dilation: tuple[int, int]) -> Geometry:
    """The geometry of a convolution into a channels-last y; `before` is the padding above and to the left."""
    _, k, oh, ow = y_shape
    rows, columns = (tuple(i * d - b for i in range(size)) for size, d, b in zip(kernel, dilation, before))
    return Geometry((oh, ow), stride, rows, columns, tuple(range(kernel[0] * kernel[1])), (oh * ow * k, ow * k, k, 0))


def _taps_of(phase: int, length: int, kernel: int, stride: int, dilation: int, before: int):
    """For the positions h = phase + stride * i of one axis: how many there are, their taps r, and dy's offsets from i.

    Position h gets a share from output (h + before - r * dilation) / stride wherever that is whole.
    """
    taps = [r for r in range(kernel) if (phase + before - r * dilation) % stride == 0]
    offsets = tuple((phase + before - r * dilation) // stride for r in taps)
    return len(range(phase, length, stride)), taps, offsets


def gradient_classes(x_shape: tuple[int, ...], kernel: tuple[int, int], stride: tuple[int, int],
                     before: tuple[int, int], dilation: tuple[int, int]) -> tuple[list[Geometry], bool]:
    """The convolutions of dy that fill a channels-last dx, and whether they leave gaps, where no tap reaches."""
    _, c, h, w = x_shape
    rows = [(p, *_taps_of(p, h, kernel[0], stride[0], dilation[0], before[0])) for p in range(min(stride[0], h))]
    columns = [(p, *_taps_of(p, w, kernel[1], stride[1], dilation[1], before[1])) for p in range(min(stride[1], w))]
    classes = []
    for ph, height, tap_rows, row_offsets in rows:
        for pw, width, tap_columns, column_offsets in columns:
            if tap_rows and tap_columns:
                used = tuple(i * kernel[1] + j for i in tap_rows for j in tap_columns)
                out = (h * w * c, stride[0] * w * c, stride[1] * c, (ph * w + pw) * c)
                classes.append(Geometry((height, width), (1, 1), row_offsets, column_offsets, used, out))
    return classes, not all(taps for _, _, taps, _ in rows + columns)


@functools.lru_cache(512)
def tables(images: int, size: tuple[int, int], pixel: int, geometry: Geometry,
           tile: int) -> tuple[np.ndarray, np.ndarray]:
    """Offsets [tap][output pixel] in x, of `size` pixels of `pixel` floats, and places of the output pixels in y.

    Both int32. The tail of the last tile repeats the last pixel. Raises ValueError past 2**31 floats an image.
    """
    (height, width), (oh, ow), step, out = size, geometry.grid, geometry.step, geometry.out
    count = images * oh * ow
    p = np.minimum(np.arange(-(-count // tile) * tile), count - 1)
    n, i, j = p // (oh * ow), p // ow % oh, p % ow
    ih = i * step[0] + np.array(geometry.rows)[:, None]
    iw = j * step[1] + np.array(geometry.columns)[:, None]
    inside = ((ih >= 0) & (ih < height))[:, None] & ((iw >= 0) & (iw < width))[None]
    offsets = ((n * height + ih[:, None]) * width + iw[None]) * pixel
    places = n * out[0] + i * out[1] + j * out[2] + out[3]
    if max(images * height * width * pixel, int(places.max())) >= 2**31:
        raise ValueError(f"an image of {height} x {width} pixels with {pixel} channels has more than 2**31 elements")
    table = np.where(inside, offsets, -1).reshape(len(geometry.used), -1)
    return np.ascontiguousarray(table, np.int32), np.ascontiguousarray(places, np.int32)


@functools.lru_cache(512)
def tap_ranges(size: int, count: int, kernel: int, stride: int, dilation: int, before: int) -> np.ndarray:
    """Per tap of one axis: its offset in the input, and the first and one past the last output position it serves."""
    taps = []
    for r in range(kernel):
        offset = r * dilation - before
        first = max(0, -(offset // stride))
        taps.append((offset, first, max(first, min(count, (size - 1 - offset) // stride + 1))))
    return np.array(taps, np.int32)


def images_a_job(n: int, pixels: int) -> int:
    """As many of n images as have at most `_SMALL_MAP` pixels together, one at least."""
    return min(n, max(1, _SMALL_MAP // pixels))


@functools.lru_cache(64)
def zeros(floats: int) -> np.ndarray:
    """A row of zeros, with slack for a vector."""
    return np.zeros(floats + L, np.float32)
