"""Padding of images (N, C, H, W) with their own pixels: reflected, replicated or wrapped around, and the gradient."""

from __future__ import annotations

import numpy as np

from ..shapes import padded_sources
from ._out import deliver

Padding = tuple[tuple[int, int], tuple[int, int]]


def pad2d(x: np.ndarray, *, padding: Padding, mode: str, out: np.ndarray | None = None) -> np.ndarray:
    """y (N, C, top + H + bottom, left + W + right), padding = ((top, bottom), (left, right)).

        y[n, c, i, j] = x[n, c, f(i - top, H), f(j - left, W)]

    "reflect" mirrors at the centre of the border pixel, f(-i) = i and f(H - 1 + i) = H - 1 - i; "replicate" repeats
    the border pixel, f(i) = min(max(i, 0), H - 1); "circular" goes round, f(i) = i mod H.
    Source: torch.nn.functional.pad (conventions).
    """
    rows, columns = (padded_sources(size, *ends, mode) for size, ends in zip(x.shape[2:], padding))
    return deliver(x[:, :, rows][:, :, :, columns], out, x.dtype)


def pad2d_backward(
    dy: np.ndarray,
    x_shape: tuple[int, int, int, int],
    *,
    padding: Padding,
    mode: str,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Every pixel gets the sum of the gradients of its copies: dy (N, C, OH, OW) → dx (N, C, H, W)."""
    rows, columns = (padded_sources(size, *ends, mode) for size, ends in zip(x_shape[2:], padding))
    dx = np.zeros(x_shape, dy.dtype)
    np.add.at(dx, (slice(None), slice(None), *np.ix_(rows, columns)), dy)
    return deliver(dx, out, dy.dtype)
