"""How warpgroups write the sums of a tile: through shared memory, so that whole vectors go to y.

The lanes of a warp hold 16 rows of the tile in pairs of neighbouring columns (`ptx_wgmma.py`). A warp writes 32 columns
of them to a strip of its own, and reads rows back:

    strip, 16 rows of 40 words            a lane reads 16 bytes of y: with float32 4 columns, rows l/8, + 4, + 8, + 12,
    r0  c0 c1 … c31  p . . . . . . .                                  with 16 bits 8 columns, rows l/4, + 8
    r1  c0 c1 … c31  p . . . . . . .      p is the row's pixel of y or -1; because 40 is 8 more than the banks, the
    …                                     pairs of eight rows fall into different ones

On the way, y = max(scale · sum + bias + residual, floor). The warps do not wait for each other.

Where statistics of y are wanted, the values go back to the strip as y stores them. A lane reads the 16 of the column of
its number and leaves their set (`_column_moments.py`); of eight warps' sets somebody makes those of the tile. For 16 ×
32 values a lane writes and reads 16 words of shared memory and takes about 130 instructions more.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ._math import INFINITY, ONE, ZERO, fma, larger
from ._numba import cuda, device, types
from .ptx import as_stored, lanes, load_shared, load_vector, quotient, reciprocal, store_shared, store_vector
from .ptx_mma import load_word
from .ptx_wgmma import store_columns, warp_barrier

PITCH = 40
STRIP = 16 * PITCH  # words of a warp's strip
LOTS = 8  # sets of a column that a tile's warps leave
int32, uint32 = np.int32, np.uint32


@device
def leave_column(floats, strip, sets, width, column, first_m, pixels):
    """The set of the lane's column of its warp's strip, rows first_m … + 15: one of LOTS for each of `width` columns of
    which it is one from `column` on. They lie from floats[sets] on."""
    thread, n = int32(cuda.threadIdx.x), max(int32(0), min(int32(16), int32(pixels - first_m)))
    lane, warp = thread & 31, thread >> 5
    place = int32(strip + lane)
    origin = load_word(floats, place, 0) if n > 0 else ZERO
    s, t = ZERO, ZERO
    for row in range(1, 16):
        by = load_word(floats, place, row * PITCH) - origin
        by = by if row < n else ZERO
        s, t = s + by, fma(by, by, t)
    d = s * reciprocal(larger(np.float32(n), ONE))
    at, step = uint32(sets + warp * width + column + lane), uint32(LOTS * width)
    floats[at], floats[at + step], floats[at + 2 * step] = origin, d, fma(-s, d, t)
    if lane == 0:
        floats[uint32(sets + 3 * LOTS * width + warp)] = np.float32(n)
    warp_barrier()


@device
def _leave_nothing(words, floats, strip, number, first_m, pixels):
    pass


def writer(columns: int, leave: Callable | None = None) -> Callable:
    """How a warp writes its rows of a tile with so many columns.

    All lanes call `leave(words, floats, strip, number, first_m, pixels)`, where it is given, after each part of 32
    columns, with the number of the part. There lie in the strip, for rows that are pixels, the values as y stores them.
    """
    keep, parts, keeps_values = store_columns[columns], int32(columns // 32), leave is not None
    leave = leave or _leave_nothing

    @device
    def write(sums, words, floats, strip, number, y, scale, bias, residual, first_m, first_n, pixels, grid_h, grid_w,
              outputs, group, group_outputs, out_h, out_w, height, width, pitch_h, pitch_w, has_scale, has_bias,
              has_residual, rectify):
        """Rows first_m … + 15 and columns first_n … of a group's tile; the strip is there in shared memory, which is
        seen as words and as floats. `number` is that of the tile's first part."""
        values, added = cuda.local.array(8, types.float32), cuda.local.array(8, types.float32)
        factors, summands = cuda.local.array(4, types.float32), cuda.local.array(4, types.float32)
        lane = int32(cuda.threadIdx.x & 31)
        vector = lanes(y)
        across = 32 // vector
        down = 32 // across
        floor = ZERO if rectify else -INFINITY
        if lane < 16:
            row, pixel = int32(first_m + lane), int32(-1)
            if row < pixels:
                line = quotient(row, grid_w)
                image = quotient(line, grid_h)
                h = int32(out_h + (line - image * grid_h) * pitch_h)
                pixel = int32((image * height + h) * width + out_w + (row - line * grid_w) * pitch_w)
            words[uint32(strip + lane * PITCH + 32)] = uint32(pixel)
        part = int32(0)
        while part < parts:  # `for` would keep a second counter
            keep(floats, strip + lane // 4 * PITCH + 2 * (lane % 4), PITCH, sums, part)
            warp_barrier()
            column = int32(first_n + 32 * part + lane % across * vector)
            if column < group_outputs:
                channel = int32(group * group_outputs + column)
                for i in range(16 // down):
                    at = int32(strip + (lane // across + i * down) * PITCH)
                    for j in range(0, vector, 4):
                        load_shared(values, j, floats, at + lane % across * vector + j)
                        for k in range(4):
                            factors[k], summands[k] = ONE, ZERO
                        if has_scale:
                            load_vector(factors, scale, channel + j)
                        if has_bias:
                            load_vector(summands, bias, channel + j)
                        for k in range(4):
                            values[j + k] = values[j + k] * factors[k] + summands[k]
                    pixel = int32(load_word(words, at, 32))
                    if pixel >= 0:
                        to = pixel * np.int64(outputs) + channel
                        for k in range(vector):
                            added[k] = ZERO
                        if has_residual:
                            load_vector(added, residual, to)
                        for k in range(vector):
                            values[k] = larger(values[k] + added[k], floor)
                        if keeps_values:
                            for k in range(vector):
                                values[k] = as_stored(y, values[k])
                            for j in range(0, vector, 4):
                                store_shared(floats, at + lane % across * vector + j, values, j)
                        store_vector(y, to, values)
            warp_barrier()
            leave(words, floats, strip, number + part, first_m, pixels)
            part = int32(part + 1)

    return write
