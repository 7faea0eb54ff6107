"""How warpgroups write the sums of a tile: through shared memory, so that whole vectors go to y.

The lanes of a warp hold 16 rows of the tile in pairs of neighbouring columns (`ptx_wgmma.py`). A warp writes 32 columns
of them to a strip of its own, and reads rows back:

    strip, 16 rows of 40 words            a lane reads 16 bytes of y: with float32 4 columns, rows l/8, + 4, + 8, + 12,
    r0  c0 c1 … c31  p . . . . . . .                                  with 16 bits 8 columns, rows l/4, + 8
    r1  c0 c1 … c31  p . . . . . . .      p is the row's pixel of y or -1; because 40 is 8 more than the banks, the
    …                                     pairs of eight rows fall into different ones

On the way, y = max(scale · sum + bias + residual, floor). The warps do not wait for each other.
"""

from __future__ import annotations

import numpy as np

from ._math import INFINITY, ONE, ZERO, larger
from ._numba import cuda, device, types
from .ptx import lanes, load_shared, load_vector, quotient, store_vector
from .ptx_wgmma import COLUMNS, store_columns, warp_barrier

PITCH = 40
STRIP = 16 * PITCH  # words of a warp's strip
int32, uint32 = np.int32, np.uint32


def _writer(columns: int):
    keep = store_columns[columns]

    @device
    def write(sums, words, floats, strip, y, scale, bias, residual, first_m, first_n, pixels, grid_h, grid_w,
              outputs, group,
              group_outputs, out_h, out_w, height, width, pitch_h, pitch_w, has_scale, has_bias, has_residual,
              rectify):
        """Rows first_m … + 15 and columns first_n … of a group's tile; the strip is there in shared memory, which is
        seen as words and as floats."""
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
            words[strip + lane * PITCH + 32] = uint32(pixel)
        for part in range(columns // 32):
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
                    pixel = int32(words[at + 32])
                    if pixel >= 0:
                        to = pixel * np.int64(outputs) + channel
                        for k in range(vector):
                            added[k] = ZERO
                        if has_residual:
                            load_vector(added, residual, to)
                        for k in range(vector):
                            values[k] = larger(values[k] + added[k], floor)
                        store_vector(y, to, values)
            warp_barrier()

    return write


write_rows = {columns: _writer(columns) for columns in COLUMNS}
