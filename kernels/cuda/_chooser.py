"""Which rung of the ladder computes a convolution's product on tensor cores, by card and shape.

    "mma"     `_mma_gemm.py`      mma.sync, any shape, compute capability 8.0 and newer (float16 from 7.5 on)
    "wgmma"   `_wgmma_gemm.py`    warpgroup products, 9.0; whole vectors of outputs
    "tma"     `_tma_gemm.py`      the same fed by the copy engine, 9.0; windows that it can walk

Without a measurement the fastest by design comes first: the copy engine where its steps of 128 bytes are mostly filled
by the channels of a tap, then warpgroups. Their tiles have 128 pixels and at least 64 outputs: products that would
leave most of such a tile empty begin with the small tiles of mma.sync.
"""

from __future__ import annotations

from . import _tma_gemm, _wgmma_gemm
from ._layout import blocks
from ._operands import ROW
from ._window import Axis

HOPPER = (9, 0)
FILLED = 0.75  # of the bytes of a step, for the copy engine to come first
LEAST_PIXELS, LEAST_OUTPUTS = 64, 32  # of a tile that is worth a warpgroup


def candidates(capability: tuple[int, int], itemsize: int, x_shape: tuple, y_shape: tuple, groups: int,
               window: tuple[Axis, Axis]) -> tuple[str, ...]:
    """The rungs that can fill these pixels of y, channels padded to whole vectors, the likely fastest first."""
    if capability != HOPPER:
        return ("mma",)
    hopper = []
    if _wgmma_gemm.supports(itemsize, x_shape, y_shape, groups, window):
        hopper.append("wgmma")
    if _tma_gemm.supports(itemsize, x_shape, y_shape, groups, window):
        size = x_shape[1] // groups * itemsize
        hopper.insert(0 if size >= FILLED * ROW * blocks(size, ROW) else 1, "tma")
    pixels, outputs = x_shape[0] * window[0].count * window[1].count, y_shape[1] // groups
    small = pixels < LEAST_PIXELS or outputs < LEAST_OUTPUTS
    return ("mma", *hopper) if small else (*hopper, "mma")
