"""Arithmetic between arrays of one shape."""

from __future__ import annotations

import numpy as np

from ._out import deliver


def add(a: np.ndarray, b: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """a + b, of one shape: the sum at the end of a residual block (He et al. 2016, arXiv:1512.03385).

    Its gradient is dy, to a and to b alike.
    """
    return deliver(a + b, out, a.dtype)
