"""Kullback-Leibler divergence, float32, any shapes that broadcast; formulas in the reference's file.

A forward reads both operands, 8 bytes an element, and takes a logarithm or an exponential; a backward reads the target
and writes dx, 8 bytes.
"""

from __future__ import annotations

import numpy as np

from ._driver import INT, job
from ._losses import BACKWARD, FORWARD, backward, each_loss, each_slope, forward
from ._math import vexp, vlog
from .simd import vload_n, vselect


@each_loss
def _loss(a, x, target, weight, other, i, n):
    log_p, t = vload_n(x, i, n), vload_n(target, i, n)
    if a.log_target:
        return vexp(t) * (t - log_p)
    return vselect(t == 0, 0, t * vlog(t)) - t * log_p


@each_slope
def _slope(a, x, target, weight, other, i, n):
    t = vload_n(target, i, n)
    return -vexp(t) if a.log_target else -t


@job(**FORWARD, log_target=INT)
def _losses(first, last, thread, a):
    _loss(a, first, last, thread)


@job(**BACKWARD, log_target=INT)
def _slopes(first, last, thread, a):
    _slope(a, first, last)


def kl_div(
    x: np.ndarray,
    target: np.ndarray,
    *,
    log_target: bool = False,
    reduction: str = "mean",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """t log t - t x."""
    return forward(_losses, {"x": x, "target": target}, reduction, out, log_target=log_target)


def kl_div_backward(
    dy: np.ndarray,
    x: np.ndarray,
    target: np.ndarray,
    *,
    log_target: bool = False,
    reduction: str = "mean",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Gradient to x: -dy * t."""
    return backward(_slopes, dy, {"x": x, "target": target}, reduction, out, log_target=log_target)
