"""The gradient to a convolution's weight on Hopper's tensor cores, in 16 bits, fed by the copy engine: sm_90a.

    dweight[k, (r, s, c)] = Σ_m dy[m, k] · x[pixel(m, r, s), c]        m = (n, p, q)

Operands are channels-last images as `_operands.py` makes them, float16 or bfloat16; sums are float32. As in `_wgrad.py`
the pixels are split into shares, whose sums go to a workspace and are added up in order. Both operands lie in memory
with the reduction as rows, which warpgroup products of 16-bit types take as they are: MN-major, in panels of 64 pixels
by 64 channels, 8 KB each (`ptx_wgmma.py`). So a step of 64 pixels is a few panels, and the engine brings each by one
instruction: of dy 64 filters; of x 64 channels of one tap, moved as the tap says.

    tile, filters × places        panels of a stage: dy | x        stages        consumers
    128 × 256                     2 | 4        48 KB               4             64 filters each
    128 × 128                     2 | 2        32 KB               4             64 filters each
     64 × 256                     1 | 4        40 KB               4             128 places each

Places come in whole panels: channels of a tap are rounded up to 64, what is beyond them is computed and not written.
Roles of the warps and barriers are those of `_tma_gemm.py`. A step of 128 × 256 copies 48 KB for 2 · 128 · 256 · 64
operations, 85 a byte; the workspace costs 8 bytes for each weight and share.
"""

from __future__ import annotations

import numpy as np

from ._gather import coordinates
from ._layout import Array, blocks
from ._memory import empty
from ._numba import cuda, types
from ._tensor_map import Walk, fits, pixels
from ._wgmma_rows import PITCH, STRIP
from ._wgrad import add_parts
from ._window import Axis, forward_axis
from .launch import F32, INT, MAP, STORAGE, Kernel, kernel
from .ptx import load_shared, quotient, store_vector
from .ptx_tma import barrier_arrive, barrier_expect, barrier_init, barrier_wait, load_pixels, publish_barriers
from .ptx_wgmma import (
    PANEL,
    clear,
    hold,
    multiply_transposed,
    store_columns,
    warp_barrier,
    wgmma_commit,
    wgmma_fence,
    wgmma_wait,
)

DEPTH, STAGES, WARPS = 64, 4, 8  # pixels of a step; stages; warps that multiply
WIDTH = 64  # channels of a panel
THREADS = 32 * (WARPS + 1)
ENOUGH_BLOCKS = 264  # two for each multiprocessor of the largest cards
LEAST_SHARE = 512  # pixels: a smaller share is not worth its workspace
int32 = np.int32


def _tile(down: int, columns: int) -> Kernel:
    """`down` panels of filters, `columns` places for each of the two consumers."""
    multiply, keep = multiply_transposed[columns], hold[columns]
    empty_sums, save = clear[columns], store_columns[columns]
    own = columns // WIDTH  # panels of places of a consumer
    across, sums_count = own * (3 - down), columns // 2
    stage_words = (down + across) * PANEL
    strips = STAGES * stage_words
    full, empty_ = strips + WARPS * STRIP, strips + WARPS * STRIP + 2

    def tma_wgrad(x, dy_map, x_map, partial, steps, all_steps, group_channels, chunks, wide_filters, group_filters,
                  groups, grid_h, grid_w, taps_h, taps_w, first_h, first_w, step_h, step_w, tap_h, tap_w, move_h,
                  move_w):
        words = cuda.shared.array(0, types.uint32, alignment=1024)
        floats = cuda.shared.array(0, types.float32, alignment=1024)
        thread = int32(cuda.threadIdx.x)
        warp, lane = thread >> 5, thread & 31
        part = quotient(cuda.blockIdx.z, groups)
        group = int32(cuda.blockIdx.z - part * groups)
        first_k, first_panel = int32(cuda.blockIdx.x * (down * WIDTH)), int32(cuda.blockIdx.y * across)
        here = min(steps, all_steps - part * steps)
        if thread == 0:
            for i in range(STAGES):
                barrier_init(words, full + 4 * i, 1)
                barrier_init(words, empty_ + 4 * i, WARPS)
            publish_barriers()
        cuda.syncthreads()

        if warp < WARPS:
            consumer = warp >> 2
            left = int32(consumer * (down - 1) * PANEL)
            right = int32((down + consumer * (2 - down) * own) * PANEL)
            sums = cuda.local.array(sums_count, types.float32)
            empty_sums(sums)
            for step in range(here):
                stage = step & (STAGES - 1)
                at = int32(stage * stage_words)
                barrier_wait(words, full + 4 * stage, step // STAGES & 1)
                keep(sums)
                wgmma_fence()
                for k in range(4):  # 16 pixels each
                    multiply(sums, words, at + left + k * (PANEL // 4), at + right + k * (PANEL // 4), x)
                wgmma_commit()
                wgmma_wait(1)
                if step > 0 and lane == 0:
                    barrier_arrive(words, empty_ + 4 * ((step - 1) & (STAGES - 1)))
            wgmma_wait(0)
            keep(sums)

            strip = int32(strips + warp * STRIP)
            values = cuda.local.array(4, types.float32)
            taps = int32(taps_h * taps_w)
            panel = int32(first_panel + consumer * (2 - down) * own)
            tap = quotient(panel, chunks)
            c = int32((panel - tap * chunks) * WIDTH + lane % 8 * 4)
            row = int32(first_k + consumer * (down - 1) * WIDTH + warp % 4 * 16 + lane // 8)
            first_line = int32(cuda.blockIdx.z * group_filters + row)  # z is (part, group)
            for half in range(columns // 32):
                save(floats, strip + lane // 4 * PITCH + 2 * (lane % 4), PITCH, sums, half)
                warp_barrier()
                if tap < taps and c < group_channels:
                    for i in range(0, 16, 4):
                        if row + i < group_filters:
                            load_shared(values, 0, floats, strip + (lane // 8 + i) * PITCH + lane % 8 * 4)
                            line = int32((first_line + i) * taps + tap)
                            store_vector(partial, line * np.int64(group_channels) + c, values)
                warp_barrier()
                c = int32(c + 32)
                if c >= chunks * WIDTH:
                    c = int32(c - chunks * WIDTH)
                    tap = int32(tap + 1)
        elif thread == WARPS * 32:
            for step in range(here):
                stage = step & (STAGES - 1)
                at = int32(stage * stage_words)
                image, i, j = coordinates(int32((part * steps + step) * DEPTH), grid_h, grid_w)
                h, w = int32(first_h + i * step_h), int32(first_w + j * step_w)
                barrier_wait(words, empty_ + 4 * stage, 1 - (step // STAGES & 1))
                barrier_expect(words, full + 4 * stage, 4 * stage_words)
                for panel in range(down):
                    load_pixels(words, at + panel * PANEL, dy_map, full + 4 * stage,
                                group * wide_filters + first_k + panel * WIDTH, j, i, image, 0, 0)
                for panel in range(across):
                    tap = quotient(first_panel + panel, chunks)
                    c = int32((first_panel + panel - tap * chunks) * WIDTH)
                    tap = min(tap, taps_h * taps_w - 1)  # beyond the last place anything will do
                    u = quotient(tap, taps_w)
                    load_pixels(words, at + (down + panel) * PANEL, x_map, full + 4 * stage, group * group_channels + c,
                                w, h, image, tap_w + (tap - u * taps_w) * move_w, tap_h + u * move_h)

    pointers = dict(x=STORAGE, dy_map=MAP, x_map=MAP, partial=F32)
    names = tma_wgrad.__code__.co_varnames[len(pointers) : tma_wgrad.__code__.co_argcount]
    return kernel(block=THREADS, shared=4 * (full + 4 * STAGES), blocks_per_sm=1, arch="sm_90a",
                  dtypes=("float16", "bfloat16"), name=f"tma_wgrad_{down * WIDTH}_{across * WIDTH}", **pointers,
                  **dict.fromkeys(names, INT))(tma_wgrad)


_TILES = {(128, 256): _tile(2, 256), (128, 128): _tile(2, 128), (64, 256): _tile(1, 128)}


def supports(itemsize: int, x_shape: tuple, window: tuple[Axis, Axis]) -> bool:
    """Can the copy engine gather these pixels, for tensor cores that transpose 16-bit types alone?"""
    h, w = window
    something = min(*x_shape, h.taps, w.taps, h.count, w.count) > 0
    return itemsize == 2 and something and fits(h, x_shape[2]) and fits(w, x_shape[3])


def tiles(x_shape: tuple, weight_shape: tuple, groups: int) -> list[tuple[int, int]]:
    """The tiles, filters and places, the one that is chosen without a measurement first."""
    k, _, r, s = weight_shape
    few = blocks(x_shape[1] // groups, WIDTH) * r * s <= 2  # panels of places
    best = (64, 256) if k // groups <= 64 else (128, 128) if few else (128, 256)
    return sorted(_TILES, key=lambda tile: tile != best)


def wgrad(dy: Array, x: Array, weight_shape: tuple[int, int, int, int], groups: int, window: tuple[Axis, Axis],
          *, tile: tuple[int, int] | None = None) -> Array:
    """dweight (K, C/G, R, S), float32, from dy and x as `images` gives them; `window` is the forward convolution's."""
    (images, channels, *source), (k, _, r, s), (h, w) = x.shape, weight_shape, window
    inner, group_filters = channels // groups, k // groups
    chunks = blocks(inner, WIDTH)
    filters, places = tile or tiles(x.shape, weight_shape, groups)[0]
    grid = blocks(group_filters, filters), blocks(chunks * r * s * WIDTH, places)
    all_steps = blocks(images * h.count * w.count, DEPTH)
    enough = blocks(ENOUGH_BLOCKS, grid[0] * grid[1] * groups)
    parts = max(1, min(enough, all_steps // (LEAST_SHARE // DEPTH), 65535 // groups))
    steps = blocks(all_steps, parts)
    parts = blocks(all_steps, steps)
    partial = empty((parts, k, r * s * inner))
    down, across = Walk.of(h, source[0]), Walk.of(w, source[1])
    itself = forward_axis(h.count, 1, 1, 0, 1), forward_axis(w.count, 1, 1, 0, 1)
    _TILES[filters, places](
        (*grid, groups * parts), x, pixels(dy, itself, DEPTH), pixels(x, window, DEPTH), partial, steps, all_steps,
        inner, chunks, dy.shape[1] // groups, group_filters, groups, h.count, w.count, r, s, down.first, across.first,
        h.step, w.step, -down.lowest, -across.lowest, h.move, w.move)
    return add_parts(partial, weight_shape)
