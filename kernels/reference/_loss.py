"""From the losses of elements to one loss, and from its gradient back to the operands.

The reductions: "none" keeps the loss of each element, "sum" adds them up, "mean" divides the sum by their number.
"""

from __future__ import annotations

import numpy as np

from ..shapes import repeated_axes


def reduced(losses: np.ndarray, reduction: str, count: int | None = None) -> np.ndarray:
    """The loss; `count` is what a mean divides by if that is not the number of losses."""
    if reduction == "none":
        return losses
    if reduction == "sum":
        return losses.sum()
    with np.errstate(invalid="ignore"):
        return losses.sum() / np.asarray(losses.size if count is None else count, losses.dtype)


def chained(
    dy: np.ndarray, slope: np.ndarray, shape: tuple[int, ...], reduction: str, count: int | None = None
) -> np.ndarray:
    """The gradient to an operand of this shape: dy times the slope of each element's loss.

    An operand that was broadcast gets the sum over the elements that it took part in.
    """
    gradient = slope * dy
    if reduction not in ("none", "sum"):
        gradient = gradient / np.asarray(max(1, slope.size if count is None else count), slope.dtype)
    return gradient.sum(axis=repeated_axes(shape, gradient.shape), keepdims=True).reshape(shape)
