"""Batch norm, an optional residual sum and ReLU, float32: what batch norm costs alone, the rest is done on the way.

    forward     y = max(0, (x - μ) a + b [+ residual])      reads x twice [and the residual], writes y
    backward    dy₊ = dy where y > 0, else 0                reads dy and x twice, writes dx [and dy₊]
                dx, dγ, dβ of batch norm, from dy₊          [dy₊ being the gradient to the residual]

The forward leaves a mask of one bit an element, y > 0, which is all that the backward needs of y. Training so spends 12
bytes an element forward and 20 backward, with a residual 16 and 24, inference 8 and 12, and an eighth of a byte each
time the mask is read or written; one op after the other 20 and 32, 32 and 32, 16 and 28.
"""

from __future__ import annotations

import numpy as np

from ._batchnorm import SUMMING, batch_statistics, gradient, gradients, normalised, running_statistics, summing, table
from ._driver import INT, PTR, job
from ._layout import channels_last, contiguous, deliver, empty_like_image
from ._memory import empty
from ._rows import Rows, each_row_vector, fold
from ._stream import put, streams
from .simd import MASK, L, mload, mstore, vload_n, vselect

Four = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
_UINT8 = np.dtype(np.uint8)


@each_row_vector
def _rectify(a, i, k, c, n):
    y = normalised(a.x, i, a.coefficients, a.width, c, n)
    if a.residual:
        y = y + vload_n(a.residual, i, n)
    blocked = y <= 0
    put(a.y, i, vselect(blocked, 0, y), n, a.streams)
    if a.mask:
        mstore(a.mask, k, ~blocked)


@job(x=PTR, residual=PTR, y=PTR, mask=PTR, coefficients=PTR, size=INT, width=INT, height=INT, streams=INT)
def _rectify_blocks(first, last, thread, a):
    _rectify(a, first, last)


@summing
def _sum_passed(a, i, k, c, n):
    return vselect(mload(a.mask, k), vload_n(a.dy, i, n), 0)


@job(dy=PTR, mask=PTR, **SUMMING)
def _sum_passed_blocks(first, last, thread, a):
    _sum_passed(a, first, last, thread)


@each_row_vector
def _gradient_of_passed(a, i, k, c, n):
    passed = vselect(mload(a.mask, k), vload_n(a.dy, i, n), 0)
    put(a.dx, i, gradient(passed, a, i, c, n), n, a.streams)
    if a.dresidual:
        put(a.dresidual, i, passed, n, a.streams)


@job(dy=PTR, mask=PTR, x=PTR, dx=PTR, dresidual=PTR, coefficients=PTR, size=INT, width=INT, height=INT, streams=INT)
def _gradient_of_passed_blocks(first, last, thread, a):
    _gradient_of_passed(a, first, last)


def _apply(
    x: np.ndarray, rows: Rows, coefficients: np.ndarray, residual: np.ndarray | None, mask: np.ndarray | None
) -> np.ndarray:
    y = empty_like_image(x)
    _rectify_blocks(
        rows.blocks, threads=rows.threads, x=x, residual=None if residual is None else channels_last(residual), y=y,
        mask=mask, coefficients=coefficients, size=rows.size, width=rows.width, height=rows.height,
        streams=streams(y, rows.width))
    return y


def _empty_mask(rows: Rows) -> np.ndarray:
    vectors = rows.whole * -(-rows.width // L) + -(-(rows.size % rows.width) // L)
    return empty((vectors * MASK,), _UINT8)


def batch_norm_relu_train(
    x: np.ndarray,
    weight: np.ndarray | None,
    bias: np.ndarray | None,
    running_mean: np.ndarray | None,
    running_var: np.ndarray | None,
    residual: np.ndarray | None = None,
    *,
    momentum: float,
    eps: float,
    statistics: None = None,
    out: Four | None = None,
) -> Four:
    """Normalise as `batch_norm_train` does, add the residual (of x's shape), rectify → (y, μ, s, mask).

    The mask, a bit an element in an order of its own, says where y > 0. 12 bytes an element, 16 with a residual.
    `statistics` are always None, as `conv2d` says.
    """
    y_out, mean_out, invstd_out, mask_out = out or (None, None, None, None)
    x, rows = channels_last(x), fold(x.size, x.shape[1])
    mean, invstd, coefficients = batch_statistics(
        x, rows, weight, bias, running_mean, running_var, momentum=momentum, eps=eps)
    mask = _empty_mask(rows)
    y = _apply(x, rows, coefficients, residual, mask)
    return deliver(y, y_out), deliver(mean, mean_out), deliver(invstd, invstd_out), deliver(mask, mask_out)


def batch_norm_relu_train_backward(
    dy: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray | None,
    mean: np.ndarray,
    invstd: np.ndarray,
    mask: np.ndarray,
    *,
    residual: bool = False,
    out: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None] | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
    """Gradients (dx, dγ, dβ, dresidual), the last one None unless the forward had a residual.

    20 bytes an element, 24 with a residual.
    """
    dx_out, dweight_out, dbias_out, dresidual_out = out or (None, None, None, None)
    dy, x, mask, rows = channels_last(dy), channels_last(x), contiguous(mask), fold(x.size, x.shape[1])
    dweight, dbias, coefficients = gradients(
        _sum_passed_blocks, x, rows, table("means", rows, mean), weight, mean, invstd, constant=False, dy=dy, mask=mask)
    dx, dresidual = empty_like_image(x), empty_like_image(x) if residual else None
    _gradient_of_passed_blocks(
        rows.blocks, threads=rows.threads, dy=dy, mask=mask, x=x, dx=dx, dresidual=dresidual,
        coefficients=coefficients, size=rows.size, width=rows.width, height=rows.height,
        streams=streams(dx, rows.width))
    dx, dweight, dbias = deliver(dx, dx_out), deliver(dweight, dweight_out), deliver(dbias, dbias_out)
    return dx, dweight, dbias, deliver(dresidual, dresidual_out) if residual else None


def batch_norm_relu_eval(
    x: np.ndarray,
    weight: np.ndarray | None,
    bias: np.ndarray | None,
    running_mean: np.ndarray,
    running_var: np.ndarray,
    residual: np.ndarray | None = None,
    *,
    eps: float,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Normalise as `batch_norm_eval` does, add the residual, rectify. 8 bytes an element, 12 with a residual."""
    x, rows = channels_last(x), fold(x.size, x.shape[1])
    coefficients = running_statistics(rows, weight, bias, running_mean, running_var, eps=eps)
    return deliver(_apply(x, rows, coefficients, residual, None), out)
