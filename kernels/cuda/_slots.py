"""A few numbers on their way to the device as arguments of a launch.

A copy from host memory would have to wait until the copy before it has read that memory, or need a ring of pinned
buffers; arguments are copied by the launch itself. One launch of a single thread takes WIDTH numbers: 64 bytes.
"""

from __future__ import annotations

from collections.abc import Sequence

from ._layout import Array
from .launch import I64, LONG, kernel

WIDTH = 8


@kernel(block=1, slots=I64, a=LONG, b=LONG, c=LONG, d=LONG, e=LONG, f=LONG, g=LONG, h=LONG)
def _write(slots, a, b, c, d, e, f, g, h):
    slots[0], slots[1], slots[2], slots[3] = a, b, c, d
    slots[4], slots[5], slots[6], slots[7] = e, f, g, h


def write(slots: Array, values: Sequence[int]) -> None:
    """slots[i] = values[i], int64; the rest of the last eight becomes 0. `slots` are a multiple of eight."""
    for first in range(0, len(values), WIDTH):
        some = values[first : first + WIDTH]
        _write(1, slots[first : first + WIDTH], *some, *[0] * (WIDTH - len(some)))
