"""How kernels over channels-last images share out the pixels of a result.

A thread takes one pixel and EACH pieces of its channels, that lie apart:

    thread of the pixel    0     1     2     0     1     2
    channels            | 0…3 | 4…7 | 8…  |     |     | …C |        a piece: 16 bytes, or 4 single channels

With C a multiple of what 16 bytes hold, a piece is one vector; else it is QUAD channels, read one by one. Both kinds of
a kernel come from one function: `pieces(vector)` gives it what differs.

Which pixel a thread has takes divisions by sizes that the compiler does not know. A GPU has no instruction for that and
needs about 20; a product with a prepared reciprocal (`reciprocal_of`) needs 3.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ._layout import Array, blocks
from ._memory import xp
from ._numba import device
from .launch import INT, LONG, Kernel, kernel
from .ptx import lanes, load, load_vector, multiply_wide, store, store_vector

THREADS, EACH, QUAD, WIDEST = 256, 2, 4, 8
_LOW, _SHIFT, _TWO = np.int64(0xFFFFFFFF), np.int64(32), np.uint32(2)


def reciprocal_of(divisor: int) -> int:
    """What `quotient` multiplies with: ⌊2^(31 + s) / divisor⌋ + 1 and, above its 32 bits, s = ⌈log2 divisor⌉.

    Source: Granlund and Montgomery (1994), Division by invariant integers using multiplication, PLDI, theorem 4.2.
    """
    shift = (divisor - 1).bit_length()
    return shift << 32 | (1 << 31 + shift) // divisor + 1


@device
def quotient(n, by):
    """⌊n / d⌋ for 0 <= n < 2³¹ and by = reciprocal_of(d)."""
    high, _ = multiply_wide(_TWO * np.uint32(n), np.uint32(by & _LOW))
    return np.int32(high >> np.uint32(by >> _SHIFT))


@device
def pixel_of(thread, share, by_share, width, by_width, height, by_height):
    """The (image, row, column) of a thread of the grid, and which of the `share` threads of this pixel it is."""
    pixel = quotient(thread, by_share)
    line = quotient(pixel, by_width)
    image = quotient(line, by_height)
    return image, np.int32(line - image * height), np.int32(pixel - line * width), np.int32(thread - pixel * share)


def pieces(vector: bool) -> tuple:
    """width(p), read(registers, p, i, left) and write(p, i, registers, left) of a piece of which `left` channels are
    there."""
    if vector:

        @device
        def read(registers, p, i, left):
            if left > 0:
                load_vector(registers, p, i)

        @device
        def write(p, i, registers, left):
            if left > 0:
                store_vector(p, i, registers)

        return lanes, read, write

    @device
    def width(p):
        return QUAD

    @device
    def read(registers, p, i, left):
        for lane in range(QUAD):
            if lane < left:
                registers[lane] = load(p, i + lane)

    @device
    def write(p, i, registers, left):
        for lane in range(QUAD):
            if lane < left:
                store(p, i + lane, registers[lane])

    return width, read, write


PLAN = {"threads": INT, "channels": INT, "share": INT, "by_share": LONG, "width": INT, "by_width": LONG,
        "height": INT, "by_height": LONG}  # fmt: skip
"""The arguments that a `Plan` gives a kernel, ahead of the kernel's own."""


def both_kinds(**fields: str) -> Callable:
    """Decorator of make(vector), which gives a function: its kernels, (of single channels, of vectors)."""

    def decorate(make: Callable) -> tuple[Kernel, Kernel]:
        def kind(vector: bool) -> Kernel:
            function = make(vector)
            function.__name__ = make.__name__ + ("_vectors" if vector else "_singles")
            function.__doc__ = make.__doc__
            return kernel(block=THREADS, blocks_per_sm=3, **fields)(function)

        return kind(False), kind(True)

    return decorate


def pixel_kernels(**fields: str) -> Callable:
    """The same for kernels that a `Plan` runs: its arguments come first, then these fields."""
    return both_kinds(**PLAN, **fields)


class Plan:
    """A launch over the pixels of a result (N, C, H, W), by vectors where they fit into C.

    The kernel's first arguments are the threads of the grid, the channels, and what `pixel_of` takes. An array that
    needs 2³¹ threads or more is refused: the launch's integers do not hold their number.
    """

    def __init__(self, n: int, c: int, h: int, w: int, itemsize: int, vector: bool = True):
        wide = 16 // itemsize
        self.vector = vector and c % wide == 0
        share = max(1, blocks(c, (wide if self.vector else QUAD) * EACH))
        threads = n * h * w * share if c else 0
        self.grid = blocks(threads, THREADS)
        sizes = (share, w, h)
        self.arguments = (threads, c, *(v for size in sizes for v in (size, reciprocal_of(max(size, 1)))))

    def run(self, kernels: tuple[Kernel, Kernel], *args: Any) -> None:
        """Queue the kernel of the right kind with these further arguments."""
        kernels[self.vector](self.grid, *self.arguments, *args)


def table(values: Any, dtype: Any) -> Array:
    """A small array of the caller's, from wherever it is, on the device and C-contiguous."""
    return xp().ascontiguousarray(xp().asarray(values, dtype))
