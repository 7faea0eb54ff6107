"""Convolution as an implicit matrix product on Hopper's tensor cores, fed by the copy engine: rung (d), sm_90a.

    y[m, k] = act(scale[k] Σ_{u, v, c} x[pixel(m, u, v), c] · rows[k, (u, v, c)] + bias[k] + residual[m, k])

m = (n, i, j) as in `_window.py`, operands as `_operands.py` makes them: float32 (multiplied as TF32), float16 or
bfloat16; sums are float32. A block computes tiles of 128 pixels × 256 outputs (128 or 64 where that keeps the card
busier) of one group, one after another: the grid is as large as the card. The reduction goes by steps of 128 bytes, 32
or 64 channels of one tap. Nine warps have two roles:

    producer: one thread        for each tile and step, wait until the stage is empty, ask the copy engine for 128
                                pixels of x at this tap (im2col mode) and for the rows of the matrix
    consumers: 2 warpgroups     wait until the stage is full, 4 products of 64 pixels × 256 outputs; when those of the
                                step before are done, hand back its stage. At the end scale, bias, floor, write

    shared memory, 128-byte rows        stage 0             stage 1        …        strips      barriers
    (permuted, `ptx_wgmma.py`)     | pixels | outputs | pixels | outputs | … | 8 · 16 rows | full 0, empty 0, full 1, …
                                     16 KB    32 KB                            20 KB

Where statistics of y are wanted, a tenth warp makes them, so that consumers may be four parts of a tile apart:

    consumers, for each 32 columns of a tile    wait until the slot is empty, leave the sets of their 16 rows
    tenth warp                                  wait until the slot is full, join eight sets of each column, hand back
                                                the slot, write counts, means and squared deviations: 12 bytes a column

    behind the barriers      | slot 0 | slot 1 | slot 2 | slot 3 | full 0, empty 0, full 1, …      slots of 3 KB, laid
                                                                                       out as in `_column_moments.py`

A tile leaves 12 · 256 bytes of statistics; a pass over its y would read 64 or 128 KB.

There are 4 stages for 256 outputs (192 KB of copies under way) and for 128, 8 for 64. A step reads 48 KB for
2 · 128 · 256 · 32 operations in TF32, twice as many with 16 bits: 43 or 85 operations a byte. 168 registers a thread
are enough for 128 sums and few counters: loops over tiles have but one, hence `while`. Handing registers from a
producer of four warps to the consumers (setmaxnreg) would leave them more, but the assembler ignores it in code that is
made for linking, as nvJitLink's is.

No thread computes an address of x: the engine walks through the pixels, and puts zeros where a tap leaves the image and
where channels end in the middle of a step. `supports` says what it can walk.

Sources: Parallel Thread Execution ISA, NVIDIA; Chetlur et al. (2014), arXiv:1410.0759, for the implicit product.
"""

from __future__ import annotations

import numpy as np

from ._column_moments import join
from ._layout import Array, blocks
from ._numba import SIMULATED, cuda, device, types
from ._operands import ROW
from ._tensor_map import Walk, fits, pixels, tiled
from ._wgmma_rows import LOTS, STRIP, leave_column, writer
from ._window import Axis
from .launch import F32, INT, MAP, STORAGE, Kernel, current_device, kernel, multiprocessors
from .ptx import lanes, quotient
from .ptx_tma import (
    barrier_arrive,
    barrier_expect,
    barrier_init,
    barrier_wait,
    load_pixels,
    load_tile,
    prefetch_map,
    publish_barriers,
)
from .ptx_wgmma import clear, hold, multiply_shared, warp_barrier, wgmma_commit, wgmma_fence, wgmma_wait

int32 = np.int32
ROWS, WARPS = 128, 8  # pixels of a tile, warps that multiply
THREADS = 32 * (WARPS + 1)
_HALF = ROWS * ROW // 4 // 2  # words of the pixels of one consumer
_STAGES = {256: 4, 128: 4, 64: 8}  # powers of two
_SLOTS = 4  # for the sets of 32 columns each, a power of two
_SETS = 32 * 3 * LOTS + LOTS  # words of a slot


def _tile(columns: int, output: str = STORAGE, statistics: bool = False) -> Kernel:
    """`output` is the kind of y and of the residual; `statistics` of y go to counts, means and squares."""
    stages, multiply, keep, empty_sums = _STAGES[columns], multiply_shared[columns], hold[columns], clear[columns]
    right = 2 * _HALF  # where the outputs' rows begin in a stage, in words
    stage_words = right + columns * ROW // 4
    strips = stages * stage_words
    full, empty = strips + WARPS * STRIP, strips + WARPS * STRIP + 2
    sets = full + 4 * stages
    known, free = sets + _SLOTS * _SETS, sets + _SLOTS * _SETS + 2
    end = known + 4 * _SLOTS if statistics else sets
    stage_bytes = 4 * stage_words
    sums_count, parts = columns // 2, columns // 32

    @device
    def leave(words, floats, strip, number, first_m, pixels):
        slot = int32(number & (_SLOTS - 1))
        barrier_wait(words, free + 4 * slot, 1 - (quotient(number, _SLOTS) & 1))
        leave_column(floats, strip, int32(sets + slot * _SETS), 32, 0, first_m, pixels)
        if cuda.threadIdx.x & 31 == 0:
            barrier_arrive(words, known + 4 * slot)

    write = writer(columns, leave if statistics else None)

    def tma_gemm(rows, x_map, rows_map, y, scale, bias, residual, counts, means, squares, tiles, tiles_m, tiles_n,
                 pixel_count, group_channels, grid_h, grid_w, taps_h, taps_w, first_h, first_w, step_h, step_w, tap_h,
                 tap_w, move_h, move_w, outputs, group_outputs, out_h, out_w, height, width, pitch_h, pitch_w,
                 has_scale, has_bias, has_residual, rectify):
        words = cuda.shared.array(0, types.uint32, alignment=1024)
        floats = cuda.shared.array(0, types.float32, alignment=1024)
        thread = int32(cuda.threadIdx.x)
        depth = int32(8 * lanes(rows))
        steps = int32(taps_h * taps_w * quotient(int32(group_channels + depth - 1), depth))
        if thread == 0:
            for i in range(stages):
                barrier_init(words, full + 4 * i, 1)
                barrier_init(words, empty + 4 * i, WARPS)
            if statistics:
                for i in range(_SLOTS):
                    barrier_init(words, known + 4 * i, WARPS)
                    barrier_init(words, free + 4 * i, 1)
            publish_barriers()
        cuda.syncthreads()

        lane, warp, tile = thread & 31, thread >> 5, int32(cuda.blockIdx.x)
        n = int32(0)  # steps done, of all tiles: n mod stages is the stage; with each round the parity changes
        part = int32(0)  # parts of 32 columns done, of all tiles: the same for slots
        if warp < WARPS:
            sums = cuda.local.array(sums_count, types.float32)
            left = (warp >> 2) * _HALF
            while tile < tiles:
                empty_sums(sums)
                for step in range(steps):
                    stage = n & (stages - 1)
                    at = int32(stage * stage_words)
                    barrier_wait(words, full + 4 * stage, quotient(n, stages) & 1)
                    keep(sums)
                    wgmma_fence()
                    for k in range(4):
                        multiply(sums, words, at + left + 8 * k, at + right + 8 * k, rows)
                    wgmma_commit()
                    wgmma_wait(1)
                    if step > 0 and lane == 0:
                        barrier_arrive(words, empty + 4 * ((n - 1) & (stages - 1)))
                    n = int32(n + 1)
                wgmma_wait(0)
                keep(sums)
                if lane == 0:
                    barrier_arrive(words, empty + 4 * ((n - 1) & (stages - 1)))
                rest = quotient(tile, tiles_n)
                group = quotient(rest, tiles_m)
                write(
                    sums, words, floats, strips + warp * STRIP, part, y, scale, bias, residual,
                    (rest - group * tiles_m) * ROWS + warp * 16, (tile - rest * tiles_n) * columns,
                    pixel_count, grid_h, grid_w, outputs, group, group_outputs, out_h, out_w, height, width, pitch_h,
                    pitch_w, has_scale, has_bias, has_residual, rectify)
                part, tile = int32(part + parts), int32(tile + cuda.gridDim.x)
        elif thread == WARPS * 32:
            prefetch_map(x_map)
            prefetch_map(rows_map)
            while tile < tiles:
                rest = quotient(tile, tiles_n)
                group = quotient(rest, tiles_m)
                row = (rest - group * tiles_m) * ROWS
                output = group * group_outputs + (tile - rest * tiles_n) * columns
                line = quotient(row, grid_w)
                image = quotient(line, grid_h)
                h = first_h + (line - image * grid_h) * step_h
                w = first_w + (row - line * grid_w) * step_w
                c, u, v = int32(0), int32(0), int32(0)
                for _ in range(steps):
                    stage = n & (stages - 1)
                    at = stage * stage_words
                    barrier_wait(words, empty + 4 * stage, 1 - (quotient(n, stages) & 1))
                    barrier_expect(words, full + 4 * stage, stage_bytes)
                    load_pixels(words, at, x_map, full + 4 * stage, group * group_channels + c, w, h, image,
                                tap_w + v * move_w, tap_h + u * move_h)
                    load_tile(words, at + right, rows_map, full + 4 * stage, c, u * taps_w + v, output)
                    c = int32(c + depth)
                    if c >= group_channels:
                        c = 0
                        v += 1
                        if v == taps_w:
                            v = 0
                            u += 1
                    n = int32(n + 1)
                tile = int32(tile + cuda.gridDim.x)
        elif statistics and warp > WARPS:
            while tile < tiles:
                rest = quotient(tile, tiles_n)
                group = quotient(rest, tiles_m)
                column = int32((tile - rest * tiles_n) * columns + lane)
                to = (rest - group * tiles_m) * np.int64(outputs) + (group * group_outputs + column)
                for _ in range(parts):
                    slot = part & (_SLOTS - 1)
                    barrier_wait(words, known + 4 * slot, quotient(part, _SLOTS) & 1)
                    if column < group_outputs:
                        join(floats, sets + slot * _SETS, LOTS, 32, lane, counts, means, squares, to)
                    warp_barrier()
                    if lane == 0:
                        barrier_arrive(words, free + 4 * slot)
                    column, to, part = int32(column + 32), to + 32, int32(part + 1)
                tile = int32(tile + cuda.gridDim.x)

    pointers = dict(rows=STORAGE, x_map=MAP, rows_map=MAP, y=output, scale=F32, bias=F32, residual=output, counts=F32,
                    means=F32, squares=F32)
    names = tma_gemm.__code__.co_varnames[len(pointers) : tma_gemm.__code__.co_argcount]
    dtypes = ("float32", "float16", "bfloat16") if output == STORAGE else ("bfloat16",)
    name = f"tma_gemm_{columns}" + "_to_float32" * (output == F32) + "_statistics" * statistics
    return kernel(block=THREADS + 32 * statistics, shared=4 * end, blocks_per_sm=1, arch="sm_90a", dtypes=dtypes,
                  name=name, **pointers, **dict.fromkeys(names, INT))(tma_gemm)


_TILES = {(columns, *kind): _tile(columns, *kind) for columns in _STAGES
          for kind in ((STORAGE, False), (F32, False), (STORAGE, True))}


def supports(itemsize: int, x_shape: tuple, y_shape: tuple, groups: int, window: tuple[Axis, Axis]) -> bool:
    """Can the copy engine gather these pixels? Whole vectors in, whole vectors out, taps within its reach; where there
    are groups, none may end in the middle of a step."""
    vector, inner, (h, w) = 16 // itemsize, x_shape[1] // groups, window
    whole = inner % vector == y_shape[1] // groups % vector == 0 and (groups == 1 or inner % (8 * vector) == 0)
    something = min(*x_shape, *y_shape, h.taps, w.taps) > 0
    return whole and something and fits(h, x_shape[2]) and fits(w, x_shape[3])


def tiles(x_shape: tuple, y_shape: tuple, groups: int, window: tuple[Axis, Axis]) -> list[tuple[int, int]]:
    """The tiles for these pixels of y, the one that is chosen without a measurement first."""
    down, group_outputs = blocks(x_shape[0] * window[0].count * window[1].count, ROWS), y_shape[1] // groups

    # As many rounds as the card needs for all tiles; what a tile costs beside its columns is about 64 of them.
    def cost(columns: int) -> int:
        return blocks(down * blocks(group_outputs, columns) * groups, _card()) * (columns + 64)

    return [(ROWS, columns) for columns in sorted(_STAGES, key=cost)]


def _card() -> int:
    return 2 if SIMULATED else multiprocessors(current_device())


def convolve(x: Array, rows: Array, y: Array, groups: int, window: tuple[Axis, Axis], scale: Array | None = None,
             bias: Array | None = None, rectify: bool = False, residual: Array | None = None,
             sets: tuple[Array, Array, Array] | None = None, *, tile: tuple[int, int] | None = None) -> None:
    """Fill the pixels of y (x's dtype, or float32) that belong to this window.

    x is of `images`, rows of `weight_rows`, y and the residual are channels-last; all this is what it `supports`. For a
    y of x's dtype, `sets` take counts, means and squared deviations of y: (rows of tiles, channels) float32 each.
    """
    (images, channels, *source), (outputs, *size), (h, w) = x.shape, y.shape[1:], window
    count, inner, group_outputs = images * h.count * w.count, channels // groups, outputs // groups
    _, columns = tile or tiles(x.shape, y.shape, groups, window)[0]
    every = blocks(count, ROWS) * blocks(group_outputs, columns) * groups
    down, across = Walk.of(h, source[0]), Walk.of(w, source[1])
    _TILES[columns, STORAGE if x.dtype == y.dtype else F32, sets is not None](
        min(every, _card()), rows, pixels(x, window, ROWS), tiled(rows, inner, h.taps * w.taps, columns), y,
        scale, bias, residual, *(sets or (None,) * 3), every, blocks(count, ROWS), blocks(group_outputs, columns),
        count, inner, h.count, w.count, h.taps, w.taps, down.first, across.first, h.step, w.step, -down.lowest,
        -across.lowest, h.move, w.move, outputs, group_outputs, h.out, w.out, *size, h.pitch, w.pitch,
        scale is not None, bias is not None, residual is not None, rectify)
