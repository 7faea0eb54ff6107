"""Batch norm, an optional residual sum and ReLU, float32: what batch norm costs alone, the rest is done on the way.

    forward     y = max(0, (x - μ) a + b [+ residual])          reads x twice [and the residual], writes y
    backward    dy₊ = dy where y > 0, else 0                    reads dy and x twice, writes dx
                dx, dγ, dβ of batch norm, from dy₊              [reads dy, y, x, writes dy₊; reads dy₊ and x, writes dx]

Without a residual both passes of the backward compute y anew from x, by the function that made it, so that they see
ReLU's kink where the forward saw it. With one the first pass reads y and leaves dy₊, the gradient to the residual, for
the second. Training so spends 12 bytes an element forward and 20 backward, with a residual 16 and 28, inference 8 and
12; one op after the other 20 and 32, 32 and 32, 16 and 28.
"""

from __future__ import annotations

import numpy as np

from ._batchnorm import SUMMING, batch_statistics, gradient, gradients, normalised, running_statistics, summing, table
from ._driver import INT, PTR, job
from ._layout import channels_last, deliver, empty_like_image
from ._memory import empty
from ._rows import Rows, each_row_vector, fold
from .batchnorm import gradient_blocks
from .simd import vload_n, vselect, vstore_n

Four = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@each_row_vector
def _rectify(a, i, c, n):
    y = normalised(a.x, i, a.coefficients, a.width, c, n)
    vstore_n(a.y, i, vselect(y <= 0, 0, y), n)


@job(x=PTR, y=PTR, coefficients=PTR, size=INT, width=INT, height=INT)
def _rectify_blocks(first, last, thread, a):
    _rectify(a, first, last)


@each_row_vector
def _rectify_sum(a, i, c, n):
    y = normalised(a.x, i, a.coefficients, a.width, c, n) + vload_n(a.residual, i, n)
    vstore_n(a.y, i, vselect(y <= 0, 0, y), n)


@job(x=PTR, residual=PTR, y=PTR, coefficients=PTR, size=INT, width=INT, height=INT)
def _rectify_sum_blocks(first, last, thread, a):
    _rectify_sum(a, first, last)


@summing
def _sum_passed(a, i, c, n):
    y = normalised(a.x, i, a.coefficients, a.width, c, n)
    return vselect(y <= 0, 0, vload_n(a.dy, i, n))


@job(dy=PTR, **SUMMING)
def _sum_passed_blocks(first, last, thread, a):
    _sum_passed(a, first, last, thread)


@summing
def _pass_and_sum(a, i, c, n):
    passed = vselect(vload_n(a.y, i, n) <= 0, 0, vload_n(a.dy, i, n))
    vstore_n(a.dresidual, i, passed, n)
    return passed


@job(dy=PTR, y=PTR, dresidual=PTR, **SUMMING)
def _pass_and_sum_blocks(first, last, thread, a):
    _pass_and_sum(a, first, last, thread)


@each_row_vector
def _gradient_of_passed(a, i, c, n):
    y = normalised(a.x, i, a.forward, a.width, c, n)
    passed = vselect(y <= 0, 0, vload_n(a.dy, i, n))
    vstore_n(a.dx, i, gradient(passed, a, i, c, n), n)


@job(dy=PTR, x=PTR, dx=PTR, forward=PTR, coefficients=PTR, size=INT, width=INT, height=INT)
def _gradient_of_passed_blocks(first, last, thread, a):
    _gradient_of_passed(a, first, last)


def _apply(x: np.ndarray, rows: Rows, coefficients: np.ndarray, residual: np.ndarray | None) -> np.ndarray:
    y = empty_like_image(x)
    arguments = {"x": x, "y": y, "coefficients": coefficients, "size": rows.size, "width": rows.width,
                 "height": rows.height}
    if residual is None:
        _rectify_blocks(rows.blocks, threads=rows.threads, **arguments)
    else:
        _rectify_sum_blocks(rows.blocks, threads=rows.threads, residual=channels_last(residual), **arguments)
    return y


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
    out: Four | None = None,
) -> Four:
    """Normalise as `batch_norm_train` does, add the residual (of x's shape), rectify → (y, μ, s, affine).

    `affine` (2, C) holds a and b, for the backward. 12 bytes an element, 16 with a residual.
    """
    y_out, mean_out, invstd_out, affine_out = out or (None, None, None, None)
    x, rows = channels_last(x), fold(x.size, x.shape[1])
    mean, invstd, coefficients = batch_statistics(
        x, rows, weight, bias, running_mean, running_var, momentum=momentum, eps=eps)
    affine = empty((2, *mean.shape))
    affine[...] = coefficients[rows.width:3 * rows.width].reshape(2, -1)[:, :rows.channels]
    y = _apply(x, rows, coefficients, residual)
    return deliver(y, y_out), deliver(mean, mean_out), deliver(invstd, invstd_out), deliver(affine, affine_out)


def batch_norm_relu_train_backward(
    dy: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray | None,
    mean: np.ndarray,
    invstd: np.ndarray,
    affine: np.ndarray,
    y: np.ndarray | None = None,
    *,
    out: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None] | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
    """Gradients (dx, dγ, dβ, dresidual). y is the forward's output if it had a residual, else None, and so dresidual.

    20 bytes an element, 28 with a residual.
    """
    dx_out, dweight_out, dbias_out, dresidual_out = out or (None, None, None, None)
    dy, x, rows = channels_last(dy), channels_last(x), fold(x.size, x.shape[1])
    forward, dx = table("forward", rows, mean, *affine), empty_like_image(x)
    arguments = {"x": x, "dx": dx, "size": rows.size, "width": rows.width, "height": rows.height}
    if y is None:
        dresidual = None
        dweight, dbias, coefficients = gradients(
            _sum_passed_blocks, x, rows, forward, weight, mean, invstd, constant=False, dy=dy)
        _gradient_of_passed_blocks(rows.blocks, threads=rows.threads, dy=dy, forward=forward,
                                   coefficients=coefficients, **arguments)
    else:
        dresidual = empty_like_image(x)
        dweight, dbias, coefficients = gradients(
            _pass_and_sum_blocks, x, rows, forward, weight, mean, invstd, constant=False, dy=dy, y=channels_last(y),
            dresidual=dresidual)
        gradient_blocks(rows.blocks, threads=rows.threads, dy=dresidual, coefficients=coefficients, **arguments)
        dresidual = deliver(dresidual, dresidual_out)
    return deliver(dx, dx_out), deliver(dweight, dweight_out), deliver(dbias, dbias_out), dresidual


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
    return deliver(_apply(x, rows, coefficients, residual), out)
