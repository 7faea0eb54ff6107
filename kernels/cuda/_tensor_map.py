"""What the copy engine knows of a tensor: 128 bytes that the driver encodes, made anew for each shape and address.

`tiled` describes tiles of the weight's rows, tap by tap, `pixels` the rows that a convolution's GEMM gathers, tap by
tap (see `_window.py`): a box of W × H places per image, through which the engine walks row by row and image by image,
so many places at a time, with the steps of the convolution. A tap moves the whole walk; what it then meets outside the
image is zero. On its way the engine rounds the float32 of images to the nearest TF32, ties to even, as maps of type
TFLOAT32 ask for (NVIDIA's CUTLASS relies on it too); weights are rounded already.

In the simulator a map is an object that knows its array and gathers.

Source: CUDA driver API, NVIDIA, section "Tensor Map Object Management", whose limits `fits` checks.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from ._layout import Array
from ._link import binding
from ._numba import SIMULATED
from ._operands import ROW
from ._window import Axis


class Walk(NamedTuple):
    """One axis of a window as the engine walks it; taps are moved so that none has to go back."""

    first: int  # the first place's source coordinate, at the tap that lies lowest
    last: int  # where the box ends, counted from the source's last pixel
    step: int
    lowest: int  # the move of the tap that lies lowest

    @classmethod
    def of(cls, axis: Axis, size: int) -> Walk:
        """The walk along an axis of `size` source pixels."""
        lowest = min(0, (axis.taps - 1) * axis.move) if axis.taps else 0
        first = axis.start + lowest
        return cls(first, first + (axis.count - 1) * axis.step + 1 - size, axis.step, lowest)


def fits(axis: Axis, size: int) -> bool:
    """Can the engine walk this axis? Its coordinates have 8 bits, its steps go to 8."""
    walk = Walk.of(axis, size)
    farthest = max(0, axis.taps - 1) * abs(axis.move)
    return all(-128 <= corner <= 127 for corner in walk[:2]) and walk.step <= 8 and farthest <= 255 and size > 0


if SIMULATED:

    class _Map:
        def __init__(self, memory: np.ndarray, pitch: int, geometry: tuple):
            self.memory, self.geometry = memory, geometry
            if memory.ctypes.data % 16 or memory.itemsize * pitch % 16:
                raise ValueError("a tensor map needs an address and pitches that 16 divides")

        def words(self, elements: np.ndarray, inside: np.ndarray) -> np.ndarray:
            """The elements, and zeros outside, as rows of words."""
            values = np.where(inside, self.memory[np.where(inside, elements, 0)], self.memory.dtype.type(0))
            return np.ascontiguousarray(values).view(np.uint32)

    class _Tiled(_Map):
        def tile(self, c0: int, c1: int, c2: int) -> np.ndarray:
            """The words of a tile from these coordinates on, innermost first."""
            inner, taps, pitch, count, rows = self.geometry
            c, row = c0 + np.arange(ROW // self.memory.itemsize), c2 + np.arange(rows)[:, None]
            inside = (c >= 0) & (c < inner) & (0 <= c1 < taps) & (row >= 0) & (row < count)
            return self.words(row * pitch + c1 * inner + c, inside)

    class _Pixels(_Map):
        def column(self, c: int, w: int, h: int, n: int, tap_w: int, tap_h: int) -> np.ndarray:
            """The words of so many places from (n, h, w) on, moved by a tap."""
            (channels, width, height, images), across, down, rows = self.geometry
            counts = [(size + axis.last - axis.first - 1) // axis.step + 1
                      for size, axis in ((width, across), (height, down))]
            at = [(place - axis.first) // axis.step for place, axis in ((w, across), (h, down))]
            if (w - across.first) % across.step or (h - down.first) % down.step:
                raise ValueError("a walk begins beside its steps")
            if not all(0 <= place < count for place, count in zip(at, counts)):
                raise ValueError("a walk begins outside its box")
            m = (n * counts[1] + at[1]) * counts[0] + at[0] + np.arange(rows)[:, None]
            line, j = np.divmod(m, counts[0])
            image, i = np.divmod(line, counts[1])
            y, x = down.first + i * down.step + tap_h, across.first + j * across.step + tap_w
            channel = c + np.arange(ROW // self.memory.itemsize)
            inside = (y >= 0) & (y < height) & (x >= 0) & (x < width) & (image < images) & (channel < channels)
            words = self.words(((image * height + y) * width + x) * channels + channel, inside)
            if self.memory.itemsize == 4:
                rounded = words + np.uint32(0xFFF) + (words >> 13 & 1) & np.uint32(0xFFFFE000)
                words = np.where(words & 0x7F800000 == 0x7F800000, words, rounded)
            return words

    def tiled(matrix: np.ndarray, inner: int, taps: int, rows: int) -> Any:
        """A matrix (…, reduction), C-contiguous, whose rows hold `inner` numbers for each of the taps, and padding.

        Tiles are `rows` rows by 128 bytes of one tap.
        """
        pitch = matrix.shape[-1]
        return _Tiled(matrix.reshape(-1), pitch, (inner, taps, pitch, matrix.size // pitch, rows))

    def pixels(x: np.ndarray, window: tuple[Axis, Axis], rows: int) -> Any:
        """Images (N, C, H, W), channels-last; columns are `rows` places of the window by 128 bytes of channels."""
        n, c, height, width = x.shape
        walks = Walk.of(window[1], width), Walk.of(window[0], height)
        return _Pixels(x.transpose(0, 2, 3, 1).reshape(-1), c, ((c, width, height, n), *walks, rows))

else:

    def tiled(matrix: Array, inner: int, taps: int, rows: int) -> bytes:
        """A matrix (…, reduction), C-contiguous, whose rows hold `inner` numbers for each of the taps, and padding.

        Tiles are `rows` rows by 128 bytes of one tap.
        """
        pitch, size = matrix.shape[-1], matrix.dtype.itemsize
        return _encode_tiled(matrix.data.ptr, matrix.dtype.name, size, (inner, taps, matrix.size // pitch),
                             (inner * size, pitch * size), rows)

    def pixels(x: Array, window: tuple[Axis, Axis], rows: int) -> bytes:
        """Images (N, C, H, W), channels-last; columns are `rows` places of the window by 128 bytes of channels."""
        n, c, height, width = x.shape
        walks = Walk.of(window[1], width), Walk.of(window[0], height)
        return _encode_pixels(x.data.ptr, x.dtype.name, x.dtype.itemsize, (c, width, height, n), *walks, rows)


_KINDS = {"float32": "FLOAT32", "float16": "FLOAT16", "bfloat16": "BFLOAT16"}


@functools.lru_cache(maxsize=4096)
def _encode_tiled(address: int, dtype: str, itemsize: int, sizes: tuple, pitches: tuple, rows: int) -> bytes:
    driver = binding("driver")
    kind, where, how = _common(driver, _KINDS[dtype], sizes, pitches)
    box = list(map(driver.cuuint32_t, (ROW // itemsize, 1, rows)))
    return _bytes(driver.cuTensorMapEncodeTiled(kind, 3, address, *where, box, [driver.cuuint32_t(1)] * 3, *how))


@functools.lru_cache(maxsize=4096)
def _encode_pixels(address: int, dtype: str, itemsize: int, sizes: tuple, across: Walk, down: Walk, rows: int) -> bytes:
    driver = binding("driver")
    channels, width, height, _ = sizes
    pitches = itemsize * channels, itemsize * channels * width, itemsize * channels * width * height
    rounding = "TFLOAT32" if dtype == "float32" else _KINDS[dtype]
    kind, where, how = _common(driver, rounding, sizes, pitches)
    steps = list(map(driver.cuuint32_t, (1, across.step, down.step, 1)))
    return _bytes(driver.cuTensorMapEncodeIm2col(kind, 4, address, *where, [across.first, down.first],
                                                 [across.last, down.last], ROW // itemsize, rows, steps, *how))


def _common(driver: Any, kind: str, sizes: tuple, pitches: tuple) -> tuple:
    """The element's kind; sizes and, in bytes, pitches of all axes but the first; how tiles are laid out and filled."""
    how = (
        driver.CUtensorMapInterleave.CU_TENSOR_MAP_INTERLEAVE_NONE,
        driver.CUtensorMapSwizzle.CU_TENSOR_MAP_SWIZZLE_128B,
        driver.CUtensorMapL2promotion.CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
        driver.CUtensorMapFloatOOBfill.CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
    )
    where = list(map(driver.cuuint64_t, sizes)), list(map(driver.cuuint64_t, pitches))
    return getattr(driver.CUtensorMapDataType, f"CU_TENSOR_MAP_DATA_TYPE_{kind}"), where, how


def _bytes(answer: tuple) -> bytes:
    """A map as the driver gives it."""
    if answer[0]:
        raise RuntimeError(f"the driver answered {answer[0].name} to a tensor map")
    return b"".join(int(word).to_bytes(8, "little") for word in answer[1].opaque)
