"""Batch normalisation, float32: one pass over memory for the sums, one for the result.

With N values x of a channel, γ weight and β bias, and s = 1/√(σ² + ε):

    forward     y  = (x - μ) γ s + β                                                reads x twice, writes y
    backward    dβ = Σ dy,   dγ = s Σ dy (x - μ)                                    reads dy and x twice, writes dx
                dx = γ s (dy - dβ/N - (x - μ) s dγ/N)           γ s dy if μ and s are constants: one pass

so training spends 12 bytes an element forward and 20 backward, inference 8 and 12. Derivations and sources stand in
`kernels/reference/batchnorm.py`, the passes for the sums in `_batchnorm.py`.
"""

from __future__ import annotations

import numpy as np

from ._batchnorm import SUMMING, batch_statistics, gradient, gradients, normalised, running_statistics, summing, table
from ._driver import INT, PTR, job
from ._layout import channels_last, contiguous, deliver, empty_like_image
from ._rows import Rows, each_row_vector, fold
from ._stream import put, streams
from .simd import vconst_n, vload_n, vstreamed

Vectors = tuple[np.ndarray, np.ndarray, np.ndarray]


@each_row_vector
def _normalise(a, i, k, c, n):
    put(a.y, i, normalised(a.x, i, a.coefficients, a.width, c, n), n, a.streams)


@job(x=PTR, y=PTR, coefficients=PTR, size=INT, width=INT, height=INT, streams=INT)
def _normalise_blocks(first, last, thread, a):
    _normalise(a, first, last)


@summing
def _sum_gradient(a, i, k, c, n):
    return vload_n(a.dy, i, n)


@job(dy=PTR, **SUMMING)
def _sum_gradient_blocks(first, last, thread, a):
    _sum_gradient(a, first, last, thread)


@summing
def _sum_and_scale(a, i, k, c, n):
    dy = vload_n(a.dy, i, n)
    put(a.dx, i, dy * vconst_n(a.scale, c, n), n, a.streams)
    return dy


@job(dy=PTR, dx=PTR, scale=PTR, streams=INT, **SUMMING)
def _sum_and_scale_blocks(first, last, thread, a):
    _sum_and_scale(a, first, last, thread)
    vstreamed()


@each_row_vector
def _gradient(a, i, k, c, n):
    put(a.dx, i, gradient(vload_n(a.dy, i, n), a, i, c, n), n, a.streams)


@job(dy=PTR, x=PTR, dx=PTR, coefficients=PTR, size=INT, width=INT, height=INT, streams=INT)
def _gradient_blocks(first, last, thread, a):
    _gradient(a, first, last)


def _apply(x: np.ndarray, rows: Rows, coefficients: np.ndarray) -> np.ndarray:
    y = empty_like_image(x)
    _normalise_blocks(rows.blocks, threads=rows.threads, x=x, y=y, coefficients=coefficients, size=rows.size,
                      width=rows.width, height=rows.height, streams=streams(y, rows.width))
    return y


def batch_norm_train(
    x: np.ndarray,
    weight: np.ndarray | None,
    bias: np.ndarray | None,
    running_mean: np.ndarray | None,
    running_var: np.ndarray | None,
    *,
    momentum: float,
    eps: float,
    statistics: None = None,
    out: Vectors | None = None,
) -> Vectors:
    """Normalise with the batch's statistics → (y, μ, s), the vectors (C,) being what the backward needs.

    The running statistics, where given, move in place: running += momentum (new - running), the variance's new value
    being σ² N/(N - 1). An empty batch leaves them alone. 12 bytes an element. `statistics` are always None, as
    `conv2d` says.
    """
    y_out, mean_out, invstd_out = out or (None, None, None)
    x, rows = channels_last(x), fold(x.size, x.shape[1])
    mean, invstd, coefficients = batch_statistics(
        x, rows, weight, bias, running_mean, running_var, momentum=momentum, eps=eps)
    y = _apply(x, rows, coefficients)
    return deliver(y, y_out), deliver(mean, mean_out), deliver(invstd, invstd_out)


def batch_norm_eval(
    x: np.ndarray,
    weight: np.ndarray | None,
    bias: np.ndarray | None,
    running_mean: np.ndarray,
    running_var: np.ndarray,
    *,
    eps: float,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Normalise with the running statistics: (x - running_mean) γ / √(running_var + ε) + β. 8 bytes an element."""
    x, rows = channels_last(x), fold(x.size, x.shape[1])
    coefficients = running_statistics(rows, weight, bias, running_mean, running_var, eps=eps)
    return deliver(_apply(x, rows, coefficients), out)


def batch_norm_train_backward(
    dy: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray | None,
    mean: np.ndarray,
    invstd: np.ndarray,
    *,
    out: Vectors | None = None,
) -> Vectors:
    """Gradients (dx, dγ, dβ) with `mean` and `invstd` from `batch_norm_train`. 20 bytes an element."""
    dy, x, rows = channels_last(dy), channels_last(x), fold(x.size, x.shape[1])
    means = table("means", rows, mean)
    dweight, dbias, coefficients = gradients(
        _sum_gradient_blocks, x, rows, means, weight, mean, invstd, constant=False, dy=dy)
    dx = empty_like_image(x)
    _gradient_blocks(rows.blocks, threads=rows.threads, dy=dy, x=x, dx=dx, coefficients=coefficients, size=rows.size,
                     width=rows.width, height=rows.height, streams=streams(dx, rows.width))
    return _deliver(dx, dweight, dbias, out)


def batch_norm_eval_backward(
    dy: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray | None,
    running_mean: np.ndarray,
    running_var: np.ndarray,
    *,
    eps: float,
    out: Vectors | None = None,
) -> Vectors:
    """Gradients (dx, dγ, dβ) of `batch_norm_eval`, dx = γ s dy, in one pass. 12 bytes an element."""
    dy, x, rows = channels_last(dy), channels_last(x), fold(x.size, x.shape[1])
    means, invstd = table("means", rows, running_mean), 1 / np.sqrt(contiguous(running_var) + np.float32(eps))
    scale, dx = table("scale", rows, invstd if weight is None else invstd * weight), empty_like_image(x)
    dweight, dbias, _ = gradients(
        _sum_and_scale_blocks, x, rows, means, weight, running_mean, invstd, constant=True, dy=dy, dx=dx, scale=scale,
        streams=streams(dx, rows.width))
    return _deliver(dx, dweight, dbias, out)


def _deliver(dx: np.ndarray, dweight: np.ndarray, dbias: np.ndarray, out: Vectors | None) -> Vectors:
    dx_out, dweight_out, dbias_out = out or (None, None, None)
    return deliver(dx, dx_out), deliver(dweight, dweight_out), deliver(dbias, dbias_out)
