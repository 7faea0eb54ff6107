"""Dropout with a mask that is a pure function of (seed, call, position)."""

from __future__ import annotations

import math

import numpy as np

from ._out import deliver
from ._philox import words


def dropout(x: np.ndarray, *, p: float, seed: int, call: int, out: np.ndarray | None = None) -> np.ndarray:
    """y = x / (1 - p) where the element is kept, else 0; an element is dropped with probability p.

    x has any shape. Element i, counted in channels-last order of the shape (N, *spatial, C), is kept if its
    random 32-bit word (see `_philox.words`) is at least ⌊p · 2³²⌋. `seed` and `call` are 64-bit ints; the
    same pair gives the same mask, so the backward is `dropout(dy, ...)` with the same p, seed and call.

    Sources: Srivastava et al. (2014), scaled in training as in torch.nn.Dropout; Salmon et al. (2011).
    """
    if x.ndim > 2:
        in_memory = (x.shape[0], *x.shape[2:], x.shape[1])
    else:
        in_memory = x.shape
    kept = (words(x.size, seed, call) >= math.floor(p * 2**32)).reshape(in_memory)
    if x.ndim > 2:
        kept = np.moveaxis(kept, -1, 1)
    scale = 1 / (1 - p) if p < 1 else 1
    return deliver(np.where(kept, x * scale, 0), out, x.dtype)
