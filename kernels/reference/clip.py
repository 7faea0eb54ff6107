"""Clipping the gradients of a model: the norm of many arrays as one vector, and all of them clipped and scaled."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ._out import deliver

Arrays = Sequence[np.ndarray]


def total_norm(xs: Arrays, *, norm_type: float, out: np.ndarray | None = None) -> np.ndarray:
    """(Σ |x|^p)^(1/p) over all elements of all arrays, p = norm_type not 0; for p = ±inf the largest or smallest |x|.

    The smallest of no elements is infinite. Source: Pascanu, Mikolov and Bengio (2013), arXiv:1211.5063, section 3.2.
    """
    sizes = np.concatenate([np.abs(x).ravel() for x in xs])
    if math.isinf(norm_type):
        norm = sizes.max(initial=0) if norm_type > 0 else sizes.min(initial=np.inf)
    else:
        norm = np.sum(sizes**norm_type) ** (1 / norm_type)
    return deliver(norm, out, sizes.dtype)


def clipped(
    xs: Arrays, *, scale: float = 1.0, clip_value: float = 0.0, out: tuple[np.ndarray, ...] | None = None
) -> tuple[np.ndarray, ...]:
    """For each array scale · clip(x, ±clip_value); a clip_value of 0 clips nothing, NaN stays."""
    ys = [scale * (np.clip(x, -clip_value, clip_value) if clip_value else x) for x in xs]
    return tuple(deliver(y, o, x.dtype) for x, y, o in zip(xs, ys, out or [None] * len(ys)))
