"""Maxout: the largest of several pieces, each an affine function of the input made by a linear layer or convolution.

x (N, pieces · C) or (N, pieces · C, H, W) holds piece j of unit c as channel j · C + c. Those of a grouped convolution
lie so within each group: the channels come group by group.
Source: Goodfellow et al. (2013), "Maxout networks", arXiv:1302.4389, section 3.
"""

from __future__ import annotations

import numpy as np

from ._out import deliver


def maxout(
    x: np.ndarray, *, pieces: int, groups: int = 1, out: tuple[np.ndarray, np.ndarray] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """y = max_j x_j: x (N, pieces · C, …) → y (N, C, …) and the indices j, of y's shape.

    The first of several maxima wins, the first NaN over everything. Indices are uint8 for up to 256 pieces, else int32.
    """
    y_out, indices_out = out or (None, None)
    x = x.reshape(x.shape[0], groups, pieces, x.shape[1] // (groups * pieces), *x.shape[2:])
    winner = x.argmax(axis=2)
    y = np.take_along_axis(x, winner[:, :, None], axis=2)[:, :, 0]
    shape = (x.shape[0], groups * x.shape[3], *x.shape[4:])
    kind = np.uint8 if pieces <= 256 else np.int32
    return deliver(y.reshape(shape), y_out, x.dtype), deliver(winner.reshape(shape), indices_out, kind)


def maxout_backward(
    dy: np.ndarray, indices: np.ndarray, *, pieces: int, groups: int = 1, out: np.ndarray | None = None
) -> np.ndarray:
    """dx_j = dy where j won, else 0: dy and indices (N, C, …) → dx (N, pieces · C, …)."""
    n, c, *rest = dy.shape
    dy, indices = (v.reshape(n, groups, 1, c // groups, *rest) for v in (dy, indices))
    piece = np.arange(pieces).reshape(-1, *[1] * (dy.ndim - 3))
    dx = np.where(indices == piece, dy, 0)
    return deliver(dx.reshape(n, pieces * c, *rest), out, dy.dtype)
