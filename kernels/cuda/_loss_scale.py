"""The scale of a float16 loss, adjusted where it lies: one launch of a single thread, and nobody waits for it.

The norm of all gradients says whether one of them is infinite or NaN. What follows from that goes to the optimiser's
kernels as numbers on the device (`_gradient.py`), so a CUDA graph can repeat the whole update.
"""

from __future__ import annotations

import numpy as np

from ._layout import Array
from ._math import HALF, INFINITY, ONE, TWO, absolute, larger
from ._memory import empty
from .launch import F32, I32, I64, INT, kernel

_MOST = np.float32(2.0**126)  # twice that has no normal inverse


@kernel(block=1, norm=F32, scale=F32, counts=I64, patience=INT, grad_scale=F32, skip=I32)
def _adjust(norm, scale, counts, patience, grad_scale, skip):
    s, good = scale[0], counts[0] + 1
    grad_scale[0] = ONE / s
    if absolute(norm[0]) < INFINITY:
        skip[0] = 0
        counts[0] = good if good < patience else 0
        if good >= patience and s < _MOST:
            scale[0] = TWO * s
    else:
        skip[0] = 1
        counts[0] = 0
        counts[1] += 1
        scale[0] = larger(HALF * s, ONE)


def adjust(norm: Array, scale: Array, counts: Array, patience: int) -> tuple[Array, Array]:
    """(grad_scale, skip) for the optimiser, of gradients with this norm, and the scale for the next step, in place.

        norm finite    grad_scale = 1 / scale, skip = 0;  good ← good + 1, at `patience` good ← 0 and scale ← 2 scale
        otherwise      skip = 1;  good ← 0, skipped ← skipped + 1, scale ← max(scale / 2, 1)

    counts (2,), int64, are good and skipped; all others are 0-d, skip is int32.
    """
    grad_scale, skip = empty(()), empty((), np.int32)
    _adjust(1, norm, scale, counts, patience, grad_scale, skip)
    return grad_scale, skip
