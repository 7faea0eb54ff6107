"""Images side by side in one picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np

GAP = 2  # pixels between images
LONGEST = 1000  # of the picture's sides, in pixels, as far as images are enlarged for it


def save_grid(rows: np.ndarray, path: str | Path) -> None:
    """Write a table of images (rows, columns, C, H, W), 1 or 3 channels, as a picture (.png, .jpg, …).

    The smallest value is black, the largest white. Small images are enlarged by a whole factor.

    Raises:
        ValueError: another shape.
        ModuleNotFoundError: matplotlib is not installed.
    """
    if rows.ndim != 5 or rows.shape[2] not in (1, 3) or not rows.size:
        raise ValueError(f"rows have shape {rows.shape}, expected (rows, columns, C, H, W) with 1 or 3 channels")
    try:
        from matplotlib.image import imsave
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "pictures are written by matplotlib, which is not installed: python -m pip install 'nnk[demo]'"
        ) from error
    low, high = float(rows.min()), float(rows.max())
    rows = (rows - low) / max(high - low, 1e-12)
    tiles = np.pad(rows, [(0, 0)] * 3 + [(0, GAP), (0, GAP)], constant_values=1.0)
    picture = tiles.transpose(0, 3, 1, 4, 2)
    height, across, columns, width, channels = picture.shape
    picture = picture.reshape(height * across, columns * width, channels)[:-GAP, :-GAP]
    factor = max(1, LONGEST // max(picture.shape))
    picture = picture.repeat(factor, axis=0).repeat(factor, axis=1)
    imsave(path, np.broadcast_to(picture, (*picture.shape[:2], 3)))
