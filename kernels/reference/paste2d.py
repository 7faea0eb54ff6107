"""A box of each image replaced: by one value, or by the same box of another image."""

from __future__ import annotations

import numpy as np

from ._out import deliver


def paste2d(
    x: np.ndarray, boxes: np.ndarray, partners: np.ndarray, *, fill: float = 0.0, out: np.ndarray | None = None
) -> np.ndarray:
    """y[n] = x[n], but inside box n it is x[partners[n]], or `fill` where the partner is -1.

    x and y (N, C, H, W). boxes (N, 4) of ints: the first row, the first column, and those behind the last ones, all
    within the image. partners (N,) ints. `fill` is cutout, partners are CutMix.

    Sources: DeVries and Taylor (2017), Improved regularization of convolutional neural networks with cutout; Yun et
    al. (2019), CutMix, equation 1.
    """
    y = x.copy()
    for n, ((top, left, bottom, right), partner) in enumerate(zip(boxes, partners)):
        box = slice(None), slice(top, bottom), slice(left, right)
        y[n][box] = fill if partner < 0 else x[partner][box]
    return deliver(y, out, x.dtype)
