"""Windows that slide over images, as convolution and pooling share them.

A window of R × S taps visits P × Q positions. Looking at one tap at all positions at once gives a strided
view of the padded image, so that each op is a short loop over taps with plain array arithmetic inside.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

Pair = tuple[int, int]


def ends(padding: int | Pair) -> Pair:
    """Padding of one axis as (before, after)."""
    return (padding, padding) if isinstance(padding, int) else padding


def reach(count: Pair, kernel: Pair, stride: Pair, dilation: Pair) -> Pair:
    """How many rows and columns `count` window positions cover, from the first tap to the last."""
    return tuple((n - 1) * s + d * (k - 1) + 1 for n, k, s, d in zip(count, kernel, stride, dilation))


def frame(x: np.ndarray, before: Pair, size: Pair, value: float) -> np.ndarray:
    """x (N, C, H, W) inside an image of at least `size` filled with `value`, `before` pixels from its corner."""
    height, width = (max(n, b + e) for n, b, e in zip(size, before, x.shape[2:]))
    framed = np.full((*x.shape[:2], height, width), value, x.dtype)
    interior(framed, before, x.shape)[...] = x
    return framed


def interior(framed: np.ndarray, before: Pair, shape: tuple[int, ...]) -> np.ndarray:
    """The view of a framed image that the image itself takes; `shape` is the image's (N, C, H, W)."""
    (top, left), (height, width) = before, shape[2:]
    return framed[:, :, top : top + height, left : left + width]


def taps(
    framed: np.ndarray, count: Pair, kernel: Pair, stride: Pair, dilation: Pair
) -> Iterator[tuple[Pair, np.ndarray]]:
    """Each tap (r, s) in row order, with the (N, C, P, Q) view of the pixels that it meets."""
    for r in range(kernel[0]):
        for s in range(kernel[1]):
            rows, columns = (
                slice(tap * d, tap * d + (n - 1) * step + 1, step)
                for tap, d, n, step in zip((r, s), dilation, count, stride)
            )
            yield (r, s), framed[:, :, rows, columns]
