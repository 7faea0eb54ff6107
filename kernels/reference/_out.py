"""Where a result goes: into the caller's array, or into a new one."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, DTypeLike


def deliver(value: ArrayLike, out: np.ndarray | None, dtype: DTypeLike) -> np.ndarray:
    """Write `value` into `out` and return `out`; without `out`, return `value` as an array of `dtype`."""
    if out is None:
        return np.asarray(value, dtype)
    out[...] = value
    return out
