"""The copy engine and warpgroup products alone: what lies where in shared memory, what is multiplied. Simulated or 9.0.

Where a GPU understands an im2col box, a swizzle or a descriptor otherwise than the emulation, it shows here.
"""

import itertools
from functools import cache

import numpy as np
import pytest

from nnk.kernels.cuda._numba import SIMULATED, cuda, types
from nnk.kernels.cuda._window import dgrad_windows, forward_axis
from nnk.kernels.cuda.launch import F32, INT, MAP, STORAGE, U32, kernel

ml_dtypes = pytest.importorskip("ml_dtypes")
DTYPES = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
WARP = 32


@pytest.fixture
def hopper(device):
    """Where arrays lie, on a device of compute capability 9.0 or in the simulator."""
    from nnk.kernels.cuda import _arithmetic

    if not SIMULATED and _arithmetic.capability() != (9, 0):
        pytest.skip("the copy engine and warpgroup products are those of compute capability 9.0")
    return device


def swizzled(rows):
    """Rows of 128 bytes as words, the pieces of each permuted."""
    pieces = rows.view(np.uint32).reshape(len(rows), 8, 4)
    return np.stack([row[np.arange(8) ^ (i & 7)] for i, row in enumerate(pieces)]).reshape(-1)


# ---------------------------------------------------------------- copies
@cache
def _copy(rows, pixels):
    from nnk.kernels.cuda.ptx_tma import (
        barrier_expect,
        barrier_init,
        barrier_wait,
        load_pixels,
        load_tile,
        prefetch_map,
        publish_barriers,
    )

    words, size = rows * 32, rows * 128
    full = words  # where the barrier lies

    def probe(y, x_map, a, b, c, d, e, f):
        shared = cuda.shared.array(0, types.uint32, alignment=1024)
        if cuda.threadIdx.x == 0:
            barrier_init(shared, full, 1)
            publish_barriers()
        cuda.syncthreads()
        if cuda.threadIdx.x == 0:
            prefetch_map(x_map)
            barrier_expect(shared, full, size)
            if pixels:
                load_pixels(shared, 0, x_map, full, a, b, c, d, e, f)
            else:
                load_tile(shared, 0, x_map, full, a, b, c)
        barrier_wait(shared, full, 0)
        for i in range(cuda.threadIdx.x, words, WARP):
            y[i] = shared[i]

    fields = dict(y=U32, x_map=MAP, **dict.fromkeys("abcdef", INT))
    return kernel(block=WARP, shared=size + 16, arch="sm_90a", name=f"probe_copy_{rows}_{pixels}", **fields)(probe)


WINDOWS = {
    "padded": ((2, 9, 8), (forward_axis(9, 3, 1, 1, 1), forward_axis(8, 3, 1, 1, 1))),
    "no padding": ((2, 9, 8), (forward_axis(7, 3, 1, 0, 1), forward_axis(6, 3, 1, 0, 1))),
    "steps of two": ((2, 9, 8), (forward_axis(5, 3, 2, 1, 1), forward_axis(4, 3, 2, 1, 1))),
    "steps that leave a rest": ((2, 12, 11), (forward_axis(3, 1, 4, 0, 1), forward_axis(3, 2, 4, 1, 2))),
    "uneven padding": ((1, 6, 7), (forward_axis(6, 2, 1, (0, 1), 1), forward_axis(7, 4, 1, (1, 2), 1))),
    "dilation": ((2, 9, 8), (forward_axis(9, 3, 1, 2, 2), forward_axis(8, 3, 1, 3, 3))),
    "far taps": ((1, 9, 70), (forward_axis(6, 3, 3, 64, 60), forward_axis(70, 3, 1, 120, 120))),
    "one row": ((40, 1, 1), (forward_axis(1, 1, 1, 0, 1), forward_axis(1, 1, 1, 0, 1))),
    "turned": ((2, 9, 8), dgrad_windows((9, 8), (3, 3), (1, 1), (1, 1), (1, 1))[0]),
    "turned, no padding": ((2, 7, 6), dgrad_windows((9, 8), (3, 3), (1, 1), (0, 0), (1, 1))[0]),
    "turned, residues": ((2, 5, 4), dgrad_windows((9, 8), (3, 3), (2, 2), (1, 1), (1, 1))[-1]),
    "turned, 7 by 7": ((1, 12, 12), dgrad_windows((24, 24), (7, 7), (2, 2), (3, 3), (1, 1))[1]),
}


def gathered(x, window, tap, first, rows, c):
    """Rows of 128 bytes by the formula of `_window.py`, x as (N, H, W, C)."""
    images, height, width, _ = x.shape
    held = np.zeros((rows, 128 // x.itemsize), x.dtype)
    for row, m in enumerate(range(first, first + rows)):
        line, j = divmod(m, window[1].count)
        image, i = divmod(line, window[0].count)
        h, w = (axis.start + at * axis.step + step * axis.move for axis, at, step in zip(window, (i, j), tap))
        if image < images and 0 <= h < height and 0 <= w < width:
            values = x[image, h, w, c : c + held.shape[1]]
            held[row, : len(values)] = values
    return held


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", WINDOWS)
def test_cuda_pixels_under_every_tap(name, dtype, hopper):
    from nnk.kernels.cuda._tensor_map import Walk, fits, pixels

    (images, height, width), window = WINDOWS[name]
    rows, channels, depth = 64, 40, 128 // np.dtype(DTYPES[dtype]).itemsize
    assert fits(window[0], height)
    assert fits(window[1], width)
    values = np.random.default_rng(0).integers(-99, 99, (images, height, width, channels)).astype(DTYPES[dtype])
    x_map = pixels(hopper.put(values).transpose(0, 3, 1, 2), window, rows)
    copy, y = _copy(rows, True), hopper.put(np.zeros(rows * 32, np.uint32))
    down, across = Walk.of(window[0], height), Walk.of(window[1], width)
    count = images * window[0].count * window[1].count
    wrong = []
    taps = list(itertools.product(range(window[0].taps), range(window[1].taps)))
    for tap, first in itertools.product(taps, {0, count // 3, count - 1}):
        line, j = divmod(first, window[1].count)
        image, i = divmod(line, window[0].count)
        for c in range(0, channels, depth):
            copy(1, y, x_map, c, across.first + j * across.step, down.first + i * down.step, image,
                 tap[1] * window[1].move - across.lowest, tap[0] * window[0].move - down.lowest)
            want = swizzled(gathered(values, window, tap, first, rows, c))
            if not np.array_equal(hopper.get(y), want):
                differ = np.flatnonzero((hopper.get(y) != want).reshape(rows, 32).any(1))
                wrong.append(f"tap {tap}, from place {first}, channel {c}: rows {differ}")
    assert not wrong, f"box {across}, {down}:\n" + "\n".join(wrong)


@pytest.mark.parametrize("dtype", DTYPES)
def test_cuda_tiles_of_a_matrix(dtype, hopper):
    from nnk.kernels.cuda._tensor_map import tiled

    rows, inner, taps, lines, depth = 64, 40, 3, 100, 128 // np.dtype(DTYPES[dtype]).itemsize
    values = np.random.default_rng(0).integers(-99, 99, (lines, 4 * depth)).astype(DTYPES[dtype])
    matrix_map, copy = tiled(hopper.put(values), inner, taps, rows), _copy(rows, False)
    y = hopper.put(np.zeros(rows * 32, np.uint32))
    for tap, first, c in itertools.product(range(taps), (0, 50, 96), range(0, inner, depth)):
        copy(1, y, matrix_map, c, tap, first, 0, 0, 0)
        want = np.zeros((rows, depth), values.dtype)
        part = values[first : first + rows, tap * inner + c : tap * inner + min(c + depth, inner)]
        want[: part.shape[0], : part.shape[1]] = part
        np.testing.assert_array_equal(hopper.get(y), swizzled(want), f"tap {tap}, from line {first}, number {c}")


def test_cuda_the_copy_engine_rounds_pixels_to_the_nearest_tf32(hopper):
    from nnk.kernels.cuda._tensor_map import pixels

    values = np.random.default_rng(0).standard_normal((1, 8, 8, 32)).astype(np.float32)
    values[0, 0, 0, :4] = np.array([0x3F801000, 0xBF803000, 0x3FFFF000, 0x7F800000], np.uint32).view(np.float32)
    window = forward_axis(8, 1, 1, 0, 1), forward_axis(8, 1, 1, 0, 1)
    y = hopper.put(np.zeros(64 * 32, np.uint32))
    _copy(64, True)(1, y, pixels(hopper.put(values).transpose(0, 3, 1, 2), window, 64), 0, 0, 0, 0, 0, 0)
    words = values.reshape(64, 32).view(np.uint32)
    rounded = words + np.uint32(0xFFF) + (words >> 13 & 1) & np.uint32(0xFFFFE000)  # ties to even
    rounded[0, 3] = words[0, 3]  # infinity
    np.testing.assert_array_equal(hopper.get(y).view(np.float32), swizzled(rounded).view(np.float32))


# ---------------------------------------------------------------- products
@cache
def _products(columns, transposed):
    from nnk.kernels.cuda.ptx_mma import load_words, store_words
    from nnk.kernels.cuda.ptx_wgmma import (
        clear,
        fence_async,
        hold,
        multiply_shared,
        multiply_transposed,
        wgmma_commit,
        wgmma_fence,
        wgmma_wait,
    )

    multiply, step = (multiply_transposed[columns], 512) if transposed else (multiply_shared[columns], 8)
    keep, empty_sums, sums_count, rows = hold[columns], clear[columns], columns // 2, 64 + columns

    def probe(both, y, vector):
        shared = cuda.shared.array(0, types.uint32, alignment=1024)
        held, sums = cuda.local.array(4, types.uint32), cuda.local.array(sums_count, types.float32)
        thread = np.int32(cuda.threadIdx.x)
        for i in range(thread, rows * 8, 128):
            row, piece = np.int32(i >> 3), np.int32(i & 7)
            load_words(held, 0, both, i * vector, 1)
            store_words(shared, np.int32(row * 32 + ((piece ^ (row & 7)) << 2)), held, 0)
        fence_async()
        cuda.syncthreads()
        empty_sums(sums)
        keep(sums)
        wgmma_fence()
        for k in range(4):
            multiply(sums, shared, step * k, 2048 + step * k, both)
        wgmma_commit()
        wgmma_wait(0)
        keep(sums)
        row, column = (thread >> 5) * 16 + (thread & 31) // 4, 2 * (thread & 3)
        for j in range(columns // 8):
            for i in range(4):
                y[(row + i // 2 * 8) * columns + 8 * j + column + i % 2] = sums[4 * j + i]

    return kernel(block=128, shared=rows * 128, arch="sm_90a", name=f"probe_products_{columns}_{transposed}",
                  both=STORAGE, y=F32, vector=INT)(probe)


@pytest.mark.parametrize("columns", [64, 128, 256])
@pytest.mark.parametrize(("transposed", "dtype"), [(0, "float32"), (0, "float16"), (0, "bfloat16"), (1, "float16"),
                                                   (1, "bfloat16")])  # TF32 cannot be transposed
def test_cuda_products_of_a_warpgroup(transposed, columns, dtype, hopper):
    values = np.random.default_rng(0).integers(-9, 9, (64 + columns, 128 // np.dtype(DTYPES[dtype]).itemsize))
    y = hopper.put(np.full((64, columns), np.nan, np.float32))
    both = hopper.put(values, DTYPES[dtype])
    _products(columns, transposed)(1, both, y, 16 // both.dtype.itemsize)
    if transposed:  # panels of 64 places of the reduction by 64 rows, or columns
        left, *right = values.reshape(-1, 64, 64)
        want = left.T @ np.concatenate(right, axis=1)
    else:
        want = values[:64] @ values[64:].T
    np.testing.assert_array_equal(hopper.get(y), want)
