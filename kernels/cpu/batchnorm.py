"""Batch normalisation, float32: one pass over memory for the sums, one for the result.

With N values x of a channel, γ weight and β bias, and s = 1/√(σ² + ε):

    forward     y  = (x - μ) γ s + β                                                reads x twice, writes y
    backward    dβ = Σ dy,   dγ = s Σ dy (x - μ)                                    reads dy and x twice, writes dx
                dx = γ s (dy - dβ/N - (x - μ) s dγ/N)

so training spends 12 bytes an element forward and 20 backward, inference 8 and 16. Derivations and sources stand in
`kernels/reference/batchnorm.py`.

**Large means.** Deviations are taken from one of the values themselves, x₀. However unlucky the choice, none of n
values lies further than √n σ from their mean, so that

    n σ² = Σ (x - x₀)² - (Σ (x - x₀))² / n

loses a factor n of its precision at worst (shifted sums: Chan, Golub and LeVeque (1983), The American Statistician
37(3)). A block of at most 64 rows is summed so in float32, about its first row; the blocks are joined so in float64,
about the first pixel. The mean that backward receives is rounded to float32, which at μ = 10⁵ σ moves it by up to 0.6 %
of σ: forward corrects for that in the shift, backward by the mean of x - μ.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from ._driver import FLOAT, INT, PTR, job, share
from ._layout import channels_last, contiguous, deliver, empty_like_image
from ._memory import empty, workspace
from ._rows import PAIR, Rows, each_row_vector, fold
from .simd import L, dload, dstore, fload, fstore, vfma, vload_n, vsplat, vstore_n

Vectors = tuple[np.ndarray, np.ndarray, np.ndarray]


@njit(error_model="numpy")
def _divide(x, y):
    """x / y as IEEE 754 has it, no exception at 0."""
    return x / y


@njit
def _moved(s, t, n, by):
    """Σ u and Σ u² of n values, given for u, for u + by."""
    return s + n * by, t + by * (2 * s + n * by)


# ---------------------------------------------------------------- statistics of a batch
@njit
def _deviations(x, width, rows, c, n, sums):
    """Σ (x - x₀) and Σ (x - x₀)² over the rows, x₀ the first one, in n columns from c, at most a pair of vectors."""
    x0, x1 = vload_n(x, c, n), vload_n(x, c + L, n - L)
    s0 = s1 = t0 = t1 = vsplat(0.0)
    for i in range(c + width, c + rows * width, width):
        u0, u1 = vload_n(x, i, n) - x0, vload_n(x, i + L, n - L) - x1
        s0, s1 = s0 + u0, s1 + u1
        t0, t1 = vfma(u0, u0, t0), vfma(u1, u1, t1)
    vstore_n(sums, c, s0, n)
    vstore_n(sums, c + L, s1, n - L)
    vstore_n(sums, width + c, t0, n)
    vstore_n(sums, width + c + L, t1, n - L)


@job(x=PTR, rows=INT, width=INT, height=INT, sums=PTR, pitch=INT)
def _sum_deviations(first, last, thread, a):
    """Per thread, in doubles: Σ (x - x₀) and Σ (x - x₀)², x₀ the first row; behind them the floats of one block."""
    sums = a.sums + thread * a.pitch
    of_block = sums + 16 * a.width
    for c in range(2 * a.width):
        dstore(sums, c, 0.0)
    for block in range(first, last):
        rows = min(a.height, a.rows - block * a.height)
        x = a.x + 4 * block * a.height * a.width
        tail = a.width % PAIR
        for c in range(0, a.width - tail, PAIR):
            _deviations(x, a.width, rows, c, PAIR, of_block)
        if tail:
            _deviations(x, a.width, rows, a.width - tail, tail, of_block)
        n = np.float64(rows)
        for c in range(a.width):
            by = np.float64(fload(x, c)) - np.float64(fload(a.x, c))
            s, t = _moved(np.float64(fload(of_block, c)), np.float64(fload(of_block, a.width + c)), n, by)
            dstore(sums, c, dload(sums, c) + s)
            dstore(sums, a.width + c, dload(sums, a.width + c) + t)


@njit
def _moments(a, channel):
    """Mean and biased variance of a channel: all threads' sums, all joined pixels, the pixels behind the whole rows."""
    count = a.size // a.channels
    if count == 0:
        return 0.0, 0.0
    origin = np.float64(fload(a.x, channel))
    s, t = 0.0, 0.0
    for c in range(channel, a.width if a.rows else 0, a.channels):
        u, v = 0.0, 0.0
        for part in range(a.parts):
            u += dload(a.sums + part * a.pitch, c)
            v += dload(a.sums + part * a.pitch, a.width + c)
        u, v = _moved(u, v, a.rows, fload(a.x, c) - origin)
        s, t = s + u, t + v
    for i in range(a.rows * a.width + channel, a.size, a.channels):
        u = fload(a.x, i) - origin
        s, t = s + u, t + u * u
    return origin + s / count, (t - s * s / count) / count


@njit
def _affine(a, channel, mean, invstd):
    """The coefficients with which `_normalise` makes y = (x - mean) γ invstd + β: rows of centre, scale and shift."""
    scale = invstd * fload(a.weight, channel) if a.weight else invstd
    shift = np.float64(fload(a.bias, channel)) if a.bias else 0.0
    centre = np.float32(mean)
    for c in range(channel, a.width, a.channels):
        fstore(a.coefficients, c, centre)
        fstore(a.coefficients, a.width + c, scale)
        fstore(a.coefficients, 2 * a.width + c, shift + (centre - mean) * scale)


@job(x=PTR, rows=INT, width=INT, channels=INT, size=INT, sums=PTR, pitch=INT, parts=INT, weight=PTR, bias=PTR,
     running_mean=PTR, running_var=PTR, momentum=FLOAT, eps=FLOAT, mean=PTR, invstd=PTR, coefficients=PTR)
def _finish_statistics(first, last, thread, a):
    """Channels first to last: mean and invstd, the running statistics, the coefficients."""
    count = a.size // a.channels
    for channel in range(first, last):
        mean, var = _moments(a, channel)
        invstd = _divide(1.0, np.sqrt(var + a.eps))
        fstore(a.mean, channel, mean)
        fstore(a.invstd, channel, invstd)
        if count and a.running_mean:
            old = np.float64(fload(a.running_mean, channel))
            fstore(a.running_mean, channel, old + a.momentum * (mean - old))
        if count and a.running_var:
            old = np.float64(fload(a.running_var, channel))
            fstore(a.running_var, channel, old + a.momentum * (_divide(var * count, count - 1.0) - old))
        _affine(a, channel, mean, invstd)


@job(width=INT, channels=INT, weight=PTR, bias=PTR, running_mean=PTR, running_var=PTR, eps=FLOAT, coefficients=PTR)
def _use_running(first, last, thread, a):
    """Channels first to last: the coefficients from running statistics."""
    for channel in range(first, last):
        var = np.float64(fload(a.running_var, channel))
        _affine(a, channel, np.float64(fload(a.running_mean, channel)), _divide(1.0, np.sqrt(var + a.eps)))


@each_row_vector
def _normalise(a, i, c, n):
    deviation = vload_n(a.x, i, n) - vload_n(a.coefficients, c, n)
    y = vfma(deviation, vload_n(a.coefficients, a.width + c, n), vload_n(a.coefficients, 2 * a.width + c, n))
    vstore_n(a.y, i, y, n)


@job(x=PTR, y=PTR, coefficients=PTR, size=INT, width=INT, height=INT)
def _normalise_blocks(first, last, thread, a):
    _normalise(a, first, last)


# ---------------------------------------------------------------- backward
@njit
def _products(dy, x, width, rows, c, n, centre, sums):
    """Σ dy, Σ dy u and Σ u over the rows, u = x - centre, in n columns from c, at most a pair of vectors."""
    x0, x1 = vload_n(centre, c, n), vload_n(centre, c + L, n - L)
    s0 = s1 = t0 = t1 = u0 = u1 = vsplat(0.0)
    for i in range(c, c + rows * width, width):
        dy0, dy1 = vload_n(dy, i, n), vload_n(dy, i + L, n - L)
        v0, v1 = vload_n(x, i, n) - x0, vload_n(x, i + L, n - L) - x1
        s0, s1 = s0 + dy0, s1 + dy1
        t0, t1 = vfma(dy0, v0, t0), vfma(dy1, v1, t1)
        u0, u1 = u0 + v0, u1 + v1
    vstore_n(sums, c, s0, n)
    vstore_n(sums, c + L, s1, n - L)
    vstore_n(sums, width + c, t0, n)
    vstore_n(sums, width + c + L, t1, n - L)
    vstore_n(sums, 2 * width + c, u0, n)
    vstore_n(sums, 2 * width + c + L, u1, n - L)


@job(dy=PTR, x=PTR, mean=PTR, rows=INT, width=INT, height=INT, channels=INT, sums=PTR, pitch=INT)
def _sum_products(first, last, thread, a):
    """Per thread, in doubles: Σ dy, Σ dy u and Σ u, u = x - mean; behind them a block's floats and a row of means."""
    sums = a.sums + thread * a.pitch
    of_block, centre = sums + 24 * a.width, sums + 36 * a.width
    for c in range(3 * a.width):
        dstore(sums, c, 0.0)
    for start in range(0, a.width, a.channels):
        for channel in range(a.channels):
            fstore(centre, start + channel, fload(a.mean, channel))
    for block in range(first, last):
        rows = min(a.height, a.rows - block * a.height)
        start = 4 * block * a.height * a.width
        tail = a.width % PAIR
        for c in range(0, a.width - tail, PAIR):
            _products(a.dy + start, a.x + start, a.width, rows, c, PAIR, centre, of_block)
        if tail:
            _products(a.dy + start, a.x + start, a.width, rows, a.width - tail, tail, centre, of_block)
        for c in range(3 * a.width):
            dstore(sums, c, dload(sums, c) + fload(of_block, c))


@njit
def _gathered(a, channel):
    """Σ dy, Σ dy u and Σ u of a channel, u = x - mean, gathered as in `_moments`."""
    s, t, u = 0.0, 0.0, 0.0
    for part in range(a.parts):
        sums = a.sums + part * a.pitch
        for c in range(channel, a.width, a.channels):
            s += dload(sums, c)
            t += dload(sums, a.width + c)
            u += dload(sums, 2 * a.width + c)
    mean = np.float64(fload(a.mean, channel))
    for i in range(a.rows * a.width + channel, a.size, a.channels):
        dy, v = np.float64(fload(a.dy, i)), fload(a.x, i) - mean
        s, t, u = s + dy, t + dy * v, u + v
    return s, t, u


@job(dy=PTR, x=PTR, rows=INT, width=INT, channels=INT, size=INT, sums=PTR, pitch=INT, parts=INT, weight=PTR, mean=PTR,
     invstd=PTR, constant=INT, dweight=PTR, dbias=PTR, coefficients=PTR)
def _finish_gradients(first, last, thread, a):
    """Channels first to last: dγ, dβ and rows of coefficients: centre, scale and shift as for `_normalise`, and slope.

    If mean and invstd are constants, dx = scale · dy. Else dx = scale · dy + slope · (x - centre) + shift.
    """
    count = max(a.size // a.channels, 1)
    for channel in range(first, last):
        invstd = np.float64(fload(a.invstd, channel))
        scale = invstd * fload(a.weight, channel) if a.weight else invstd
        dbias, products, deviations = _gathered(a, channel)
        if a.constant:
            dweight, centre, slope, shift = invstd * products, 0.0, 0.0, 0.0
        else:
            centre, offset = np.float64(fload(a.mean, channel)), deviations / count
            dweight = invstd * (products - offset * dbias)
            slope = -scale * invstd * dweight / count
            shift = -scale * dbias / count - slope * offset
        fstore(a.dweight, channel, dweight)
        fstore(a.dbias, channel, dbias)
        for c in range(channel, a.width, a.channels):
            fstore(a.coefficients, c, centre)
            fstore(a.coefficients, a.width + c, scale)
            fstore(a.coefficients, 2 * a.width + c, shift)
            fstore(a.coefficients, 3 * a.width + c, slope)


@each_row_vector
def _gradient(a, i, c, n):
    deviation = vload_n(a.x, i, n) - vload_n(a.coefficients, c, n)
    shift, slope = vload_n(a.coefficients, 2 * a.width + c, n), vload_n(a.coefficients, 3 * a.width + c, n)
    dx = vfma(vload_n(a.dy, i, n), vload_n(a.coefficients, a.width + c, n), vfma(deviation, slope, shift))
    vstore_n(a.dx, i, dx, n)


@job(dy=PTR, x=PTR, dx=PTR, coefficients=PTR, size=INT, width=INT, height=INT)
def _gradient_blocks(first, last, thread, a):
    _gradient(a, first, last)


# ---------------------------------------------------------------- the operations
def _apply(x: np.ndarray, rows: Rows, coefficients: np.ndarray) -> np.ndarray:
    y = empty_like_image(x)
    _normalise_blocks(rows.blocks, threads=rows.threads, x=x, y=y, coefficients=coefficients, size=rows.size,
                      width=rows.width, height=rows.height)
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
    out: Vectors | None = None,
) -> Vectors:
    """Normalise with the batch's statistics → (y, μ, s), the vectors (C,) being what the backward needs.

    The running statistics, where given, move in place: running += momentum (new - running), the variance's new value
    being σ² N/(N - 1). An empty batch leaves them alone. 12 bytes an element.
    """
    y_out, mean_out, invstd_out = out or (None, None, None)
    x, rows = channels_last(x), fold(x.size, x.shape[1])
    channels = x.shape[1]
    mean, invstd = empty((channels,)), empty((channels,))
    coefficients = workspace("coefficients", 3 * rows.width)
    moving = [v if v is None else contiguous(v) for v in (running_mean, running_var)]
    pitch = (2 * 8 + 2 * 4) * rows.width
    sums = workspace("sums", pitch * rows.parts // 4)
    _sum_deviations(rows.whole_blocks, threads=rows.parts, x=x, rows=rows.whole, width=rows.width, height=rows.height,
                    sums=sums, pitch=pitch)
    _finish_statistics(
        channels, threads=share(rows.parts * rows.width), x=x, rows=rows.whole, width=rows.width, channels=channels,
        size=rows.size, sums=sums, pitch=pitch, parts=rows.parts, weight=_vector(weight), bias=_vector(bias),
        running_mean=moving[0], running_var=moving[1], momentum=momentum, eps=eps, mean=mean, invstd=invstd,
        coefficients=coefficients)
    for new, running in zip(moving, (running_mean, running_var)):
        if running is not None:
            deliver(new, running)
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
    coefficients = workspace("coefficients", 3 * rows.width)
    _use_running(x.shape[1], threads=share(rows.width), width=rows.width, channels=x.shape[1], weight=_vector(weight),
                 bias=_vector(bias), running_mean=contiguous(running_mean), running_var=contiguous(running_var),
                 eps=eps, coefficients=coefficients)
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
    coefficients, dweight, dbias = _gradients(dy, x, rows, weight, contiguous(mean), contiguous(invstd), constant=False)
    dx = empty_like_image(x)
    _gradient_blocks(rows.blocks, threads=rows.threads, dy=dy, x=x, dx=dx, coefficients=coefficients, size=rows.size,
                     width=rows.width, height=rows.height)
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
    """Gradients (dx, dγ, dβ) of `batch_norm_eval`, dx = γ s dy. 16 bytes an element."""
    dy, x, rows = channels_last(dy), channels_last(x), fold(x.size, x.shape[1])
    invstd = 1 / np.sqrt(contiguous(running_var) + np.float32(eps))
    coefficients, dweight, dbias = _gradients(dy, x, rows, weight, contiguous(running_mean), invstd, constant=True)
    return _deliver(_apply(dy, rows, coefficients), dweight, dbias, out)


def _gradients(
    dy: np.ndarray,
    x: np.ndarray,
    rows: Rows,
    weight: np.ndarray | None,
    mean: np.ndarray,
    invstd: np.ndarray,
    *,
    constant: bool,
) -> Vectors:
    """The rows of coefficients for dx, dγ and dβ."""
    channels = x.shape[1]
    dweight, dbias = empty((channels,)), empty((channels,))
    coefficients = workspace("coefficients", 4 * rows.width)
    pitch = (3 * 8 + 3 * 4 + 4) * rows.width
    sums = workspace("sums", pitch * rows.parts // 4)
    _sum_products(rows.whole_blocks, threads=rows.parts, dy=dy, x=x, mean=mean, rows=rows.whole, width=rows.width,
                  height=rows.height, channels=channels, sums=sums, pitch=pitch)
    _finish_gradients(
        channels, threads=share(rows.parts * rows.width), dy=dy, x=x, rows=rows.whole, width=rows.width,
        channels=channels, size=rows.size, sums=sums, pitch=pitch, parts=rows.parts, weight=_vector(weight), mean=mean,
        invstd=invstd, constant=constant, dweight=dweight, dbias=dbias, coefficients=coefficients)
    return coefficients, dweight, dbias


def _vector(v: np.ndarray | None) -> np.ndarray | None:
    return v if v is None else contiguous(v)


def _deliver(dx: np.ndarray, dweight: np.ndarray, dbias: np.ndarray, out: Vectors | None) -> Vectors:
    dx_out, dweight_out, dbias_out = out or (None, None, None)
    return deliver(dx, dx_out), deliver(dweight, dweight_out), deliver(dbias, dbias_out)
