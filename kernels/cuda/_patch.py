"""Tiles of a result's pixels, and the patches of an image with few channels that they meet, in shared memory.

A tile is 128 pixels of an output map: 128 >> shift rows of 1 << shift. Its windows meet a rectangle of the image, whose
lines are runs of neighbours in memory: numbers (w, c), C of them a pixel. A block reads it once, zeros where the image
ends; what tiles share they find in the cache:

    tile of 8 × 16 pixels     3 × 3: 10 × 18 of the image, 1.4 for each     7 × 7, stride 2: 21 × 37, 6.1 for each

In shared memory it is rows of words of 32 bits: a float32 for each number or every two 16-bit numbers. A window's
numbers in a line are neighbours as well (those of a tap, where it is dilated): a run, of `Runs` in the order (u, v, c).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ._layout import blocks
from ._math import ZERO
from ._numba import cuda, device
from ._window import Axis
from .ptx import bits, load, quotient
from .ptx_mma import pack_two, round_tf32

PIXELS, THREADS = 128, 128  # of a tile, of a block
TILES = (8, 16), (16, 8), (4, 32), (2, 64), (1, 128)  # rows, columns
REGISTERS = 8, 3  # of `bring`
int32 = np.int32


class Runs(NamedTuple):
    """A window's numbers: `count` runs of `length`, `a_row` for each row of taps."""

    count: int
    a_row: int
    length: int


def runs(channels: int, window: tuple[Axis, Axis]) -> Runs:
    """Those of a forward convolution's window."""
    h, w = window
    if w.move == 1 or w.taps == 1:
        return Runs(h.taps, 1, w.taps * channels)
    return Runs(h.taps * w.taps, w.taps, channels)


class Tiling(NamedTuple):
    """What kernels are told; `line`, `start_w` and `step_w` count the image's numbers, not its pixels."""

    tiles: int
    tiles_h: int
    tiles_w: int
    shift: int
    grid_h: int
    grid_w: int
    source_h: int
    line: int
    start_h: int
    start_w: int
    step_h: int
    step_w: int
    patch_h: int  # rows
    patch_w: int  # words of a row
    odd: int  # where the second copy begins, or 0

    @property
    def words(self) -> int:
        """What the patch takes of shared memory."""
        return self.odd + self.patch_h * self.patch_w


TILING = Tiling._fields


def tiling(tile: tuple[int, int], x_shape: tuple, window: tuple[Axis, Axis], numbers: int = 1) -> Tiling:
    """For images (N, C, H, W) and a patch with so many numbers in a word, 1 or 2."""
    (images, channels, source_h, source_w), (h, w), (rows, columns) = x_shape, window, tile
    tiles_h, tiles_w = blocks(h.count, rows), blocks(w.count, columns)
    patch_h = (rows - 1) * h.step + (h.taps - 1) * h.move + 1
    patch_w = ((columns - 1) * w.step + (w.taps - 1) * w.move + 1) * channels
    if numbers == 2:
        patch_w = patch_w // 2 + 1
    # Windows that begin at an odd number read a copy moved by one, that lies 16 banks further.
    odd = blocks(patch_h * patch_w, 32) * 32 + 16 if numbers == 2 and w.step * channels % 2 else 0
    return Tiling(images * tiles_h * tiles_w, tiles_h, tiles_w, columns.bit_length() - 1, h.count, w.count, source_h,
                  source_w * channels, h.start, w.start * channels, h.step, w.step * channels, patch_h, patch_w, odd)


def tiles(x_shape: tuple, window: tuple[Axis, Axis]) -> list[tuple[int, int]]:
    """Shapes of which the map fills half or more; those that cover it with the fewest first, then by their patch."""
    found = {tile: tiling(tile, x_shape, window) for tile in TILES}
    pixels = x_shape[0] * window[0].count * window[1].count
    good = [tile for tile in TILES if found[tile].tiles * PIXELS <= 2 * pixels]
    return sorted(good, key=lambda tile: (found[tile].tiles, found[tile].words))


def lots(x_shape: tuple, window: tuple[Axis, Axis], tile: tuple[int, int]) -> int:
    """How many sets of statistics a channel gets: one for each tile."""
    return tiling(tile, x_shape, window).tiles


@device
def tile_at(tile, tiles_h, tiles_w, shift):
    """The (image, i, j) of a tile's first pixel."""
    line = quotient(tile, tiles_w)
    image = quotient(line, tiles_h)
    return image, int32((line - image * tiles_h) << (7 - shift)), int32((tile - line * tiles_w) << shift)


@device
def _number(x, line, w, width):
    return load(x, line + w) if w >= 0 and w < width else ZERO


@device
def bring(shared, to, held, x, like, numbers, every, apart, image, i, j, source_h, line, start_h, start_w, step_h,
          step_w, patch_h, patch_w, odd):
    """The patch of the tile at (image, i, j) to shared[to:]; `held` are float32 registers, of shape REGISTERS.

    `numbers` of a word are 0: a float32, 1: that to the nearest TF32, 2: two of the type of `like`, so far `apart`.
    There is a word for `every` number, or every other one.
    """
    thread, count = int32(cuda.threadIdx.x), int32(patch_h * patch_w)
    turn = 4 if numbers == 2 else 8  # words of a thread whose loads are under way at once
    first_h, first_w = int32(i * step_h + start_h), int32(j * step_w + start_w)
    down, row = quotient(THREADS, patch_w), quotient(thread, patch_w)
    right, column = int32(THREADS - down * patch_w), int32(thread - row * patch_w)
    for first in range(thread, count, turn * THREADS):
        for k in range(turn):
            held[k, 0] = held[k, 1] = held[k, 2] = ZERO
            h, w = int32(first_h + row), int32(first_w + column * every)
            if first + k * THREADS < count and h >= 0 and h < source_h:
                at = int32(image * source_h + h) * np.int64(line)
                held[k, 0] = _number(x, at, w, line)
                if numbers == 2:
                    held[k, 1] = _number(x, at, w + apart, line)
                    if odd > 0:
                        held[k, 2] = _number(x, at, w + 2, line)
            row, column = int32(row + down), int32(column + right)
            if column >= patch_w:
                row, column = int32(row + 1), int32(column - patch_w)
        for k in range(turn):
            word = int32(first + k * THREADS)
            if word < count:
                if numbers == 2:
                    shared[to + word] = pack_two(held[k, 0], held[k, 1], like)
                    if odd > 0:
                        shared[to + odd + word] = pack_two(held[k, 1], held[k, 2], like)
                elif numbers == 1:
                    shared[to + word] = round_tf32(bits(held[k, 0]))
                else:
                    shared[to + word] = bits(held[k, 0])
