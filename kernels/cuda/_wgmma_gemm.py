"""Convolution as an implicit matrix product on Hopper's tensor cores, fed by asynchronous copies: rung (c), sm_90a.

    y[m, k] = act(scale[k] Σ_{u, v, c} x[pixel(m, u, v), c] · rows[k, (u, v, c)] + bias[k] + residual[m, k])

m = (n, i, j) as in `_window.py`, operands as `_operands.py` makes them: float32 (multiplied as TF32, x rounded to the
nearest here), float16 or bfloat16; sums are float32. It gathers any window that `_gather.py` holds, also where
`_tma_gemm.py` cannot walk, and wastes nothing where a tap has fewer channels than a step.

A block of two warpgroups computes a tile of 128 pixels × 256, 128 or 64 outputs for one group, each warpgroup 64 of the
pixels. A step takes 128 bytes of the reduction, 32 or 64 numbers; four stages lie in shared memory:

    stage s mod 4, rows of 128 bytes            step s
    (permuted, `ptx_wgmma.py`)                  the thread's copies of stage s are there; the proxy is told; barrier
    | 128 pixels | 256, 128, 64 outputs |       4 products of 64 × 256 begin, 32 bytes of the reduction each
      16 KB        32, 16, 8 KB                 the products of step s - 1 are waited for
                                                copies to stage s + 2 begin, 16 bytes each: everybody has left s - 2

so that products are under way while the next copies are addressed and begun. 16-bit pixels go from shared memory to
the tensor cores. Those of float32 pass through registers, to be rounded: 4 ldmatrix and 32 further instructions a
thread and step, where a pass over shared memory would need 8 accesses of 16 bytes and as many further instructions, and
the tensor cores would read the pixels from there once more. As registers may not change under way, there step s - 1 is
waited for first; the other warpgroup fills the gap.

Where statistics of y are wanted, each warp leaves the sets of its 16 rows (`_wgmma_rows.py`) in shared memory behind
the strips, 24 KB for 256 columns, and after a barrier a thread joins the eight of a column (`_column_moments.py`): 12
bytes a column go to memory, where a pass over y would read 256 or 512.

A step copies 48 KB for 2 · 128 · 256 · 32 operations in TF32, twice as many with 16 bits: 43 or 85 operations a byte.

Sources: Parallel Thread Execution ISA, NVIDIA; Chetlur et al. (2014), arXiv:1410.0759, for the implicit product.
"""

from __future__ import annotations

import numpy as np

from ._column_moments import join
from ._gather import GEOMETRY, advance, coordinates, geometry, hits, place, reach
from ._gather import fits as holds
from ._layout import Array, blocks
from ._numba import SIMULATED, cuda, device, types
from ._operands import ROW
from ._wgmma_rows import LOTS, STRIP, leave_column, writer
from ._window import Axis
from .launch import F32, INT, STORAGE, Kernel, current_device, kernel, multiprocessors
from .ptx import lanes, quotient
from .ptx_mma import commit_copies, copy_async, load_matrices, round_words_tf32, wait_copies
from .ptx_wgmma import (
    clear,
    fence_async,
    hold,
    multiply_registers,
    multiply_shared,
    wgmma_commit,
    wgmma_fence,
    wgmma_wait,
)

ROWS, STAGES, THREADS = 128, 4, 256
WIDTH = ROW // 4  # words of a row of a stage
DOWN = THREADS // 8  # rows that all threads copy at once
IN_FLIGHT = 1  # groups of copies that may be under way when a stage is needed
BLOCKS_PER_SM = {256: 1, 128: 1, 64: 2}
WORDS = 16  # of a thread's pixels in a step: four products
int32 = np.int32


def _tile(columns: int, output: str = STORAGE, statistics: bool = False) -> Kernel:
    """`output` is the kind of y and of the residual; `statistics` of y go to counts, means and squares."""
    multiply, multiply_rounded = multiply_shared[columns], multiply_registers[columns]
    keep, empty_sums = hold[columns], clear[columns]
    a_copies, b_copies, sums_count = ROWS // DOWN, columns // DOWN, columns // 2
    b_first, stage_words = ROWS * WIDTH, (ROWS + columns) * WIDTH
    sets = THREADS // 32 * STRIP  # where statistics lie in shared memory, behind the strips

    @device
    def leave(words, floats, strip, number, first_m, pixels):
        leave_column(floats, strip, sets, columns, number * 32, first_m, pixels)

    write = writer(columns, leave if statistics else None)

    def wgmma_gemm(x, rows, y, scale, bias, residual, counts, means, squares, pixels, channels, group_channels,
                   source_h, source_w, grid_h, grid_w, taps_h, taps_w, step_h, step_w, start_h, start_w, move_h, move_w,
                   by_u, by_v, by_c, row_length, outputs, group_outputs, out_h, out_w, height, width, pitch_h, pitch_w,
                   has_scale, has_bias, has_residual, rectify):
        words = cuda.shared.array(0, types.uint32, alignment=1024)
        floats = cuda.shared.array(0, types.float32, alignment=1024)
        sums, left = cuda.local.array(sums_count, types.float32), cuda.local.array((4, 4), types.uint32)
        pixel, mask = cuda.local.array(a_copies, types.int32), cuda.local.array(a_copies, types.int32)
        thread, group = int32(cuda.threadIdx.x), int32(cuda.blockIdx.z)
        lane, warp = thread & 31, thread >> 5
        first_m, first_n = int32(cuda.blockIdx.x * ROWS), int32(cuda.blockIdx.y * columns)

        # What this thread copies: one piece of several rows of both operands.
        row, piece = thread >> 3, thread & 7
        to = int32(row * WIDTH + ((piece ^ (row & 7)) << 2))
        for j in range(a_copies):
            pixel[j], mask[j] = 0, 0
            if first_m + row + j * DOWN < pixels:
                image, h, w = coordinates(first_m + row + j * DOWN, grid_h, grid_w)
                h, w = int32(h * step_h + start_h), int32(w * step_w + start_w)
                pixel[j] = (image * source_h + h) * source_w + w
                mask[j] = reach(h, w, taps_h, taps_w, move_h, move_w, source_h, source_w)
        depth = int32(piece * lanes(x))
        u, v, c = place(depth, taps_w, group_channels)

        # Which of its warpgroup's pixels it reads where they are rounded: a row of each matrix of its warp.
        a_from = int32((warp * 16 + (lane & 15)) * WIDTH + (((lane >> 4) ^ (lane & 7)) << 2))
        a_first = int32((warp >> 2) * 64 * WIDTH)
        empty_sums(sums)

        steps = quotient(row_length, 8 * lanes(x))
        for step in range(int32(2 - STAGES), steps):
            if step >= 0:
                at = int32((step & (STAGES - 1)) * stage_words)
                wait_copies(IN_FLIGHT)
                fence_async()
                cuda.syncthreads()
                if lanes(x) == 4:
                    wgmma_wait(0)
                    for k in range(4):
                        load_matrices(left, k * 4, words, int32(at + a_from) ^ (k * 8))
                    round_words_tf32(left, WORDS)
                keep(sums)
                wgmma_fence()
                for k in range(4):
                    if lanes(x) == 4:
                        multiply_rounded(sums, left, k * 4, words, at + b_first + k * 8, x)
                    else:
                        multiply(sums, words, at + a_first + k * 8, at + b_first + k * 8, x)
                wgmma_commit()
                wgmma_wait(1)
            ahead = int32(step + (STAGES - 2))
            if ahead < steps:
                at = int32((ahead & (STAGES - 1)) * stage_words + to)
                shift = int32((u * move_h) * source_w + v * move_w)
                for j in range(a_copies):
                    source = int32(pixel[j] + shift) * np.int64(channels) + (group * group_channels + c)
                    copy_async(words, at + j * DOWN * WIDTH, x, source, hits(mask[j], u, v) << 4)
                for j in range(b_copies):
                    k = first_n + row + j * DOWN
                    source = int32(group * group_outputs + k) * np.int64(row_length) + depth
                    copy_async(words, at + b_first + j * DOWN * WIDTH, rows, source, 16 if k < group_outputs else 0)
                u, v, c = advance(u, v, c, by_u, by_v, by_c, taps_w, group_channels)
                depth = int32(depth + 8 * lanes(x))
            commit_copies()
        wgmma_wait(0)
        keep(sums)
        cuda.syncthreads()
        write(sums, words, floats, warp * STRIP, 0, y, scale, bias, residual, first_m + warp * 16, first_n, pixels,
              grid_h, grid_w, outputs, group, group_outputs, out_h, out_w, height, width, pitch_h, pitch_w, has_scale,
              has_bias, has_residual, rectify)
        if statistics:
            cuda.syncthreads()
            if thread < columns and first_n + thread < group_outputs:
                at = cuda.blockIdx.x * np.int64(outputs) + (group * group_outputs + first_n + thread)
                join(floats, sets, LOTS, columns, thread, counts, means, squares, at)

    pointers = dict(x=STORAGE, rows=STORAGE, y=output, scale=F32, bias=F32, residual=output, counts=F32, means=F32,
                    squares=F32)
    names = wgmma_gemm.__code__.co_varnames[len(pointers) : wgmma_gemm.__code__.co_argcount]
    assert names[: len(GEOMETRY)] == GEOMETRY
    dtypes = ("float32", "float16", "bfloat16") if output == STORAGE else ("bfloat16",)
    name = f"wgmma_gemm_{columns}" + "_to_float32" * (output == F32) + "_statistics" * statistics
    return kernel(block=THREADS, shared=4 * STAGES * stage_words, blocks_per_sm=BLOCKS_PER_SM[columns], arch="sm_90a",
                  dtypes=dtypes, name=name, **pointers, **dict.fromkeys(names, INT))(wgmma_gemm)


_TILES = {(columns, *kind): _tile(columns, *kind) for columns in BLOCKS_PER_SM
          for kind in ((STORAGE, False), (F32, False), (STORAGE, True))}


def supports(itemsize: int, x_shape: tuple, y_shape: tuple, groups: int, window: tuple[Axis, Axis]) -> bool:
    """Can this rung compute such images through this window? Whole vectors in and out, a window that masks hold."""
    vector = 16 // itemsize
    return x_shape[1] // groups % vector == y_shape[1] // groups % vector == 0 and holds(window)


def tiles(x_shape: tuple, y_shape: tuple, groups: int, window: tuple[Axis, Axis]) -> list[tuple[int, int]]:
    """The tiles for these pixels of y, the one that is chosen without a measurement first."""
    down, group_outputs = blocks(x_shape[0] * window[0].count * window[1].count, ROWS), y_shape[1] // groups
    card = 2 if SIMULATED else multiprocessors(current_device())

    # What a tile costs beside its columns is about 64 of them, and blocks beside each other share the card.
    def cost(columns: int) -> int:
        at_once = BLOCKS_PER_SM[columns]
        return blocks(down * blocks(group_outputs, columns) * groups, card * at_once) * (columns + 64) * at_once

    return [(ROWS, columns) for columns in sorted(BLOCKS_PER_SM, key=cost)]


def convolve(x: Array, rows: Array, y: Array, groups: int, window: tuple[Axis, Axis], scale: Array | None = None,
             bias: Array | None = None, rectify: bool = False, residual: Array | None = None,
             sets: tuple[Array, Array, Array] | None = None, *, tile: tuple[int, int] | None = None) -> None:
    """Fill the pixels of y (x's dtype, or float32) that belong to this window.

    x is of `images`, rows of `weight_rows`, y and the residual are channels-last; all this is what it `supports`. For a
    y of x's dtype, `sets` take counts, means and squared deviations of y: (rows of tiles, channels) float32 each.
    """
    (outputs, *size), (h, w), group_outputs = y.shape[1:], window, y.shape[1] // groups
    numbers = geometry(x.shape, groups, window)
    pixels, inner, taps_w = numbers[0], numbers[2], numbers[8]
    by_tap, by_c = divmod(ROW // x.itemsize, inner)
    _, columns = tile or tiles(x.shape, y.shape, groups, window)[0]
    _TILES[columns, STORAGE if x.dtype == y.dtype else F32, sets is not None](
        (blocks(pixels, ROWS), blocks(group_outputs, columns), groups), x, rows, y, scale, bias, residual,
        *(sets or (None,) * 3), *numbers, *divmod(by_tap, taps_w), by_c, rows.shape[2], outputs, group_outputs, h.out,
        w.out, *size, h.pitch, w.pitch, scale is not None, bias is not None, residual is not None, rectify)
