"""Rows of logits: the largest of a row, and sums over its classes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ._blocks import BLOCK, FULL
from ._compile import inner
from .simd import L, lane_index, vlargest, vload_n, vselect, vsplat, vsum

_SPAN = 64 * L  # floats that each lane sums 64 of in a row


@inner
def largest(x, classes):
    """The largest logit that is no NaN."""
    tail = classes % L
    best = vselect(lane_index() < tail, vload_n(x, classes - tail, tail), np.float32(-np.inf))
    for c in range(0, classes - tail, L):
        logits = vload_n(x, c, L)
        best = vselect(logits > best, logits, best)
    return vlargest(best)


def row_sum(body: Callable) -> Callable:
    """Decorator: body(c, n, *row) -> a term for each of the n classes from c on becomes total(classes, *row)."""
    body = inner(body)

    @inner
    def total(classes, *row):
        tail = classes % L
        sums = vsplat(0.0)
        for span in range(0, classes - tail, _SPAN):
            part = vsplat(0.0)
            for c in range(span, min(span + _SPAN, classes - tail), L):
                part = part + body(c, FULL, *row)
            sums = sums + part
        if tail:
            sums = sums + vselect(lane_index() < tail, body(classes - tail, tail, *row), 0.0)
        return vsum(sums)
    return total


def split(rows: int, classes: int) -> tuple[int, int]:
    """Rows a job and jobs: some thousand logits each, whatever the number of threads, so that sums repeat."""
    per_job = max(1, BLOCK // max(1, classes))
    return per_job, -(-rows // per_job)
