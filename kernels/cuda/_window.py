"""Convolutions as the GEMM sees them: which pixels of which image a row of the product meets.

A row of the product is a pixel (n, i, j) of a grid I × J. Tap (u, v), of U × V, meets the source pixel

    (i · step_h + start_h + u · move_h,  j · step_w + start_w + v · move_w)

or nothing where that lies outside; the row's result goes to pixel (out_h + i · pitch_h, out_w + j · pitch_w). Tap
(u, v) stands for the weight's tap (first_r + u · every_r, first_s + v · every_s).

Forward, source and taps are the convolution's own. The gradient to the input gathers from dy: pixel h of dx gets tap r
of every p with p · stride - padding + r · dilation = h. For a stride above 1 only some taps reach a pixel, the same
ones for all pixels of a residue h mod stride, so each residue is a convolution of its own with those taps and stride 1:
nothing is multiplied with zeros.
"""

from __future__ import annotations

import itertools
from math import gcd
from typing import NamedTuple

Pair = tuple[int, int]


class Axis(NamedTuple):
    """One axis of the formulas above: `count` rows of the grid, `taps` of the window."""

    count: int
    taps: int
    step: int
    start: int
    move: int
    out: int
    pitch: int
    first: int
    every: int


def before(padding: int | Pair) -> int:
    """The padding at the beginning of an axis."""
    return padding if isinstance(padding, int) else padding[0]


def forward_axis(count: int, taps: int, stride: int, padding: int | Pair, dilation: int) -> Axis:
    """The axis of a forward convolution with `count` outputs."""
    return Axis(count, taps, stride, -before(padding), dilation, 0, 1, 0, 1)


def dgrad_axes(size: int, taps: int, stride: int, padding: int | Pair, dilation: int) -> list[Axis]:
    """The axes, one a residue mod stride, that together give all `size` pixels of dx."""
    axes = []
    for residue in range(min(stride, size)):
        shift = residue + before(padding)
        reaching = [r for r in range(taps) if (shift - r * dilation) % stride == 0]
        every = stride // gcd(stride, dilation)
        first = reaching[0] if reaching else 0
        axes.append(Axis(
            count=-(-(size - residue) // stride), taps=len(reaching), step=1,
            start=(shift - first * dilation) // stride,
            move=-every * dilation // stride, out=residue, pitch=stride, first=first, every=every))
    return axes


def dgrad_windows(size: Pair, taps: Pair, stride: Pair, padding: tuple, dilation: Pair) -> list[tuple[Axis, Axis]]:
    """Pairs of axes for the whole of dx."""
    return list(itertools.product(*map(dgrad_axes, size, taps, stride, padding, dilation)))
