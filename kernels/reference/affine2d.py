"""Images turned, scaled and shifted, by bilinear interpolation."""

from __future__ import annotations

import numpy as np

from ._out import deliver


def affine2d(
    x: np.ndarray, matrices: np.ndarray, *, fill: float = 0.0, out: np.ndarray | None = None
) -> np.ndarray:
    """y[n, :, i, j] is image n at the place (u, v) = M_n (j', i', 1)ᵀ, between pixels by bilinear interpolation.

    x and y (N, C, H, W), matrices M (N, 2, 3). Places count pixels from the image's centre, across (u, from j' = j -
    (W - 1) / 2) and down (v, from i' = i - (H - 1) / 2): M leads from the new image back to the old. With (u, v) in
    pixels from the corner, ⌊·⌋ their pixel and (f, g) the rest,

        y = (1 - g) ((1 - f) x[⌊v⌋, ⌊u⌋] + f x[⌊v⌋, ⌊u⌋ + 1]) + g ((1 - f) x[⌊v⌋ + 1, ⌊u⌋] + f x[⌊v⌋ + 1, ⌊u⌋ + 1])

    where a pixel outside the image has the value `fill`. Places are computed in float64, whatever the dtype of x.

    Source: Jaderberg et al. (2015), Spatial transformer networks, equations 1 and 5.
    """
    n, _, height, width = x.shape
    down, across = (np.arange(size) - (size - 1) / 2 for size in (height, width))
    m = matrices.astype(np.float64)[:, :, :, None, None]
    u = m[:, 0, 0] * across + m[:, 0, 1] * down[:, None] + m[:, 0, 2] + (width - 1) / 2
    v = m[:, 1, 0] * across + m[:, 1, 1] * down[:, None] + m[:, 1, 2] + (height - 1) / 2
    # Beyond this, all four pixels lie outside.
    u, v = np.clip(u, -2, width), np.clip(v, -2, height)
    left, top = np.floor(u).astype(np.int64), np.floor(v).astype(np.int64)
    f, g = (rest.astype(x.dtype)[:, None] for rest in (u - left, v - top))

    def pixel(row, column):
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        taken = x[np.arange(n)[:, None, None], :, np.where(inside, row, 0), np.where(inside, column, 0)]
        return np.moveaxis(np.where(inside[..., None], taken, x.dtype.type(fill)), -1, 1)

    upper = (1 - f) * pixel(top, left) + f * pixel(top, left + 1)
    lower = (1 - f) * pixel(top + 1, left) + f * pixel(top + 1, left + 1)
    return deliver((1 - g) * upper + g * lower, out, x.dtype)
