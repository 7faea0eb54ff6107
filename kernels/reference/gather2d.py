"""Images rearranged by whole rows and columns: crops, flips, shifts, borders."""

from __future__ import annotations

import numpy as np

from ._out import deliver


def gather2d(
    x: np.ndarray, rows: np.ndarray, columns: np.ndarray, *, fill: float = 0.0, out: np.ndarray | None = None
) -> np.ndarray:
    """y[n, c, i, j] = x[n, c, rows[n, i], columns[n, j]], or `fill` where either index is -1.

    x (N, C, H, W), rows (N, P) and columns (N, Q) of ints give y (N, C, P, Q). A crop counts up, a flip counts down,
    a border of zeros is -1, one of reflections counts back.
    """
    rows, columns = rows[:, :, None], columns[:, None, :]
    pixels = x[np.arange(len(x))[:, None, None], :, rows, columns]
    inside = ((rows >= 0) & (columns >= 0))[..., None]
    y = np.where(inside, pixels, x.dtype.type(fill))
    return deliver(np.moveaxis(y, -1, 1), out, x.dtype)
