"""What every batch norm needs: statistics of a batch, sums for its gradients, coefficients for the pass that follows.

A channel's coefficients stand in rows as wide as those of the data (`_rows.py`): centre, scale and shift, with which
`normalised` makes y = (x - centre) scale + shift, and for a gradient its slope.

**Order.** The pass for the sums goes from the end of memory to its start, so it begins with what the op before it left
in the cache, and the pass that follows goes forward, beginning with what the sums left there.

**Large means.** Deviations are taken from one of the values themselves, x₀. However unlucky the choice, none of n
values lies further than √n σ from their mean, so that

    n σ² = Σ (x - x₀)² - (Σ (x - x₀))² / n

loses a factor n of its precision at worst. A block of at most 64 rows is summed so in float32, about its first row; the
blocks are joined so in float64, about the first pixel. The mean that backward receives is rounded to float32, which at
μ = 10⁵ σ moves it by 0.3 % of σ: forward corrects for that in the shift, backward by the mean of x - μ.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from ._blocks import FULL
from ._compile import inner
from ._driver import FLOAT, INT, PTR, Job, job, share
from ._layout import contiguous, deliver
from ._memory import empty, workspace
from ._rows import QUAD, STRIP, Rows, backwards, load_four, store_four
from .simd import L, dload, dstore, fload, fstore, vconst_n, vfma, vload_n, vsplat, vstore_n


@inner
def normalised(p, i, coefficients, width, c, n):
    """(x - centre) scale + shift for n lanes of x = p[i], column c."""
    deviation = vload_n(p, i, n) - vconst_n(coefficients, c, n)
    return vfma(deviation, vconst_n(coefficients, width + c, n), vconst_n(coefficients, 2 * width + c, n))


@inner
def moved(s, t, n, by):
    """Σ u and Σ u² of n values, given for u, for u + by."""
    return s + n * by, t + by * (2 * s + n * by)


# ---------------------------------------------------------------- statistics of a batch
@inner
def _four_deviations(x, width, rows, c, sums):
    """What `deviations` leaves, in four vectors of columns from c."""
    x0, x1, x2, x3 = load_four(x, c)
    s0 = s1 = s2 = s3 = t0 = t1 = t2 = t3 = vsplat(0.0)
    for i in range(c + width, c + rows * width, width):
        u0, u1, u2, u3 = load_four(x, i)
        u0, u1, u2, u3 = u0 - x0, u1 - x1, u2 - x2, u3 - x3
        s0, s1, s2, s3 = s0 + u0, s1 + u1, s2 + u2, s3 + u3
        t0, t1, t2, t3 = vfma(u0, u0, t0), vfma(u1, u1, t1), vfma(u2, u2, t2), vfma(u3, u3, t3)
    store_four(sums, c, s0, s1, s2, s3)
    store_four(sums, width + c, t0, t1, t2, t3)


@inner
def _few_deviations(x, width, rows, c, n, sums):
    """What `deviations` leaves, in n columns from c, at most a vector."""
    x0, s, t = vload_n(x, c, n), vsplat(0.0), vsplat(0.0)
    for i in range(c + width, c + rows * width, width):
        u = vload_n(x, i, n) - x0
        s, t = s + u, vfma(u, u, t)
    vstore_n(sums, c, s, n)
    vstore_n(sums, width + c, t, n)


@inner
def deviations(x, width, rows, columns, sums):
    """Rows of floats: Σ (x - x₀) and Σ (x - x₀)² over the rows, x₀ the first one."""
    for c in range(0, columns - QUAD + 1, QUAD):
        _four_deviations(x, width, rows, c, sums)
    for c in range(columns // QUAD * QUAD, columns, L):
        _few_deviations(x, width, rows, c, columns - c, sums)


@job(x=PTR, rows=INT, width=INT, height=INT, sums=PTR, pitch=INT)
def _sum_deviations(first, last, thread, a):
    """Per thread, in doubles: Σ (x - x₀) and Σ (x - x₀)², x₀ the first row; behind them the floats of one block."""
    sums = a.sums + thread * a.pitch
    of_block = sums + 16 * a.width
    for c in range(2 * a.width):
        dstore(sums, c, 0.0)
    for turn in range(last - first):
        block = backwards(turn, first, last)
        rows = min(a.height, a.rows - block * a.height)
        x = a.x + 4 * block * a.height * a.width
        deviations(x, a.width, rows, a.width, of_block)
        n = np.float64(rows)
        for c in range(a.width):
            by = np.float64(fload(x, c)) - np.float64(fload(a.x, c))
            s, t = moved(np.float64(fload(of_block, c)), np.float64(fload(of_block, a.width + c)), n, by)
            dstore(sums, c, dload(sums, c) + s)
            dstore(sums, a.width + c, dload(sums, a.width + c) + t)


@inner
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
        u, v = moved(u, v, a.rows, fload(a.x, c) - origin)
        s, t = s + u, t + v
    for i in range(a.rows * a.width + channel, a.size, a.channels):
        u = fload(a.x, i) - origin
        s, t = s + u, t + u * u
    return origin + s / count, (t - s * s / count) / count


@inner
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
        invstd = 1.0 / np.sqrt(var + a.eps)
        fstore(a.mean, channel, mean)
        fstore(a.invstd, channel, invstd)
        if count and a.running_mean:
            old = np.float64(fload(a.running_mean, channel))
            fstore(a.running_mean, channel, old + a.momentum * (mean - old))
        if count and a.running_var:
            old = np.float64(fload(a.running_var, channel))
            fstore(a.running_var, channel, old + a.momentum * (var * count / (count - 1.0) - old))
        _affine(a, channel, mean, invstd)


@job(width=INT, channels=INT, weight=PTR, bias=PTR, running_mean=PTR, running_var=PTR, eps=FLOAT, coefficients=PTR)
def _use_running(first, last, thread, a):
    """Channels first to last: the coefficients from running statistics."""
    for channel in range(first, last):
        var = np.float64(fload(a.running_var, channel))
        _affine(a, channel, np.float64(fload(a.running_mean, channel)), 1.0 / np.sqrt(var + a.eps))


def batch_statistics(
    x: np.ndarray,
    rows: Rows,
    weight: np.ndarray | None,
    bias: np.ndarray | None,
    running_mean: np.ndarray | None,
    running_var: np.ndarray | None,
    *,
    momentum: float,
    eps: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean and 1/√(σ² + ε) of each channel, and the coefficients; the running statistics move. One pass over x."""
    add, finish, floats = _statistics_plan(rows)
    mean, invstd = empty((rows.channels,)), empty((rows.channels,))
    coefficients, sums = workspace("coefficients", 3 * rows.width), workspace("sums", floats)
    moving = [vector(v) for v in (running_mean, running_var)]
    add(x=x, sums=sums)
    finish(x=x, sums=sums, weight=vector(weight), bias=vector(bias), running_mean=moving[0], running_var=moving[1],
           momentum=momentum, eps=eps, mean=mean, invstd=invstd, coefficients=coefficients)
    for new, running in zip(moving, (running_mean, running_var)):
        if running is not None:
            deliver(new, running)
    return mean, invstd, coefficients


@functools.lru_cache(512)
def _statistics_plan(rows: Rows) -> tuple[Callable[..., None], Callable[..., None], int]:
    """Two calls, and the floats of their workspace."""
    pitch = (2 * 8 + 2 * 4) * rows.width
    add = _sum_deviations.plan(rows.whole_blocks, threads=rows.parts, rows=rows.whole, width=rows.width,
                               height=rows.height, pitch=pitch)
    finish = _finish_statistics.plan(
        rows.channels, threads=share(rows.parts * rows.width), rows=rows.whole, width=rows.width,
        channels=rows.channels, size=rows.size, pitch=pitch, parts=rows.parts)
    return add, finish, pitch * rows.parts // 4


def running_statistics(
    rows: Rows,
    weight: np.ndarray | None,
    bias: np.ndarray | None,
    running_mean: np.ndarray,
    running_var: np.ndarray,
    *,
    eps: float,
) -> np.ndarray:
    """The coefficients from running statistics."""
    coefficients = workspace("coefficients", 3 * rows.width)
    _use_running(rows.channels, threads=share(rows.width), width=rows.width, channels=rows.channels,
                 weight=vector(weight), bias=vector(bias), running_mean=contiguous(running_mean),
                 running_var=contiguous(running_var), eps=eps, coefficients=coefficients)
    return coefficients


def vector(v: np.ndarray | None) -> np.ndarray | None:
    """A vector that a kernel can read, or None."""
    return v if v is None else contiguous(v)


def table(name: str, rows: Rows, *vectors: np.ndarray) -> np.ndarray:
    """Vectors (C,) as rows of coefficients, in the workspace of that name."""
    coefficients = workspace(name, len(vectors) * rows.width)
    for k, values in enumerate(vectors):
        coefficients[k * rows.width:(k + 1) * rows.width].reshape(-1, rows.channels)[...] = values
    return coefficients


# ---------------------------------------------------------------- gradients
def summing(gradient: Callable) -> Callable:
    """Decorator: gradient(a, i, k, c, n), n lanes of dy as in `each_row_vector`, becomes loop(a, first, last, thread).

    In a job on blocks of rows the loop leaves each thread's Σ dy, Σ dy u and Σ u, u = x - mean, as rows of doubles.
    The job takes `SUMMING` and what gradient reads; the means are the first row of `coefficients`.
    """
    gradient = inner(gradient)

    @inner
    def add(a, start, k, rows, columns, c, sums):
        """Add `rows` rows from offset `start`, vector k, in four vectors of columns from c, to the sums."""
        x0, x1, x2, x3 = load_four(a.coefficients, c)
        s0, s1, s2, s3 = load_four(sums, c)
        t0, t1, t2, t3 = load_four(sums, a.width + c)
        u0, u1, u2, u3 = load_four(sums, 2 * a.width + c)
        k += c // L
        for i in range(start + c, start + c + rows * columns, columns):
            dy0, dy1 = gradient(a, i, k, c, FULL), gradient(a, i + L, k + 1, c + L, FULL)
            dy2 = gradient(a, i + 2 * L, k + 2, c + 2 * L, FULL)
            dy3 = gradient(a, i + 3 * L, k + 3, c + 3 * L, FULL)
            v0, v1, v2, v3 = load_four(a.x, i)
            v0, v1, v2, v3 = v0 - x0, v1 - x1, v2 - x2, v3 - x3
            s0, s1, s2, s3 = s0 + dy0, s1 + dy1, s2 + dy2, s3 + dy3
            t0, t1, t2, t3 = vfma(dy0, v0, t0), vfma(dy1, v1, t1), vfma(dy2, v2, t2), vfma(dy3, v3, t3)
            u0, u1, u2, u3 = u0 + v0, u1 + v1, u2 + v2, u3 + v3
            k += -(-a.width // L)
        store_four(sums, c, s0, s1, s2, s3)
        store_four(sums, a.width + c, t0, t1, t2, t3)
        store_four(sums, 2 * a.width + c, u0, u1, u2, u3)

    @inner
    def add_few(a, start, k, rows, columns, c, n, sums):
        """The same in n columns, at most a vector."""
        x0, s, t = vload_n(a.coefficients, c, n), vload_n(sums, c, n), vload_n(sums, a.width + c, n)
        u = vload_n(sums, 2 * a.width + c, n)
        k += c // L
        for i in range(start + c, start + c + rows * columns, columns):
            dy, v = gradient(a, i, k, c, n), vload_n(a.x, i, n) - x0
            s, t, u = s + dy, vfma(dy, v, t), u + v
            k += -(-a.width // L)
        vstore_n(sums, c, s, n)
        vstore_n(sums, a.width + c, t, n)
        vstore_n(sums, 2 * a.width + c, u, n)

    @inner
    def loop(a, first, last, thread):
        sums = a.sums + thread * a.pitch
        of_block = sums + 24 * a.width
        for c in range(3 * a.width):
            dstore(sums, c, 0.0)
        for turn in range(last - first):
            block = backwards(turn, first, last)
            start, stop = block * a.height * a.width, min((block + 1) * a.height * a.width, a.size)
            for c in range(3 * a.width):
                fstore(of_block, c, 0)
            # A few rows at a time, all their columns: memory is read in its order.
            while start < stop:
                columns = min(a.width, stop - start)
                strip = min(max(4, STRIP // a.width), (stop - start) // columns)
                k = start // a.width * -(-a.width // L)
                for c in range(0, columns - QUAD + 1, QUAD):
                    add(a, start, k, strip, columns, c, of_block)
                for c in range(columns // QUAD * QUAD, columns, L):
                    add_few(a, start, k, strip, columns, c, columns - c, of_block)
                start += strip * columns
            for c in range(3 * a.width):
                dstore(sums, c, dload(sums, c) + fload(of_block, c))
    return loop


SUMMING = {"x": PTR, "coefficients": PTR, "size": INT, "width": INT, "height": INT, "sums": PTR, "pitch": INT}


@job(width=INT, channels=INT, size=INT, sums=PTR, pitch=INT, parts=INT, weight=PTR, mean=PTR, invstd=PTR, constant=INT,
     dweight=PTR, dbias=PTR, coefficients=PTR)
def _finish_gradients(first, last, thread, a):
    """Channels first to last: dγ, dβ and rows of coefficients: centre, scale and shift as for `normalised`, and slope.

    If mean and invstd are constants, dx = scale · dy. Else dx = scale · dy + slope · (x - centre) + shift.
    """
    count = max(a.size // a.channels, 1)
    for channel in range(first, last):
        dbias, products, deviations = 0.0, 0.0, 0.0
        for part in range(a.parts):
            sums = a.sums + part * a.pitch
            for c in range(channel, a.width, a.channels):
                dbias += dload(sums, c)
                products += dload(sums, a.width + c)
                deviations += dload(sums, 2 * a.width + c)
        invstd = np.float64(fload(a.invstd, channel))
        scale = invstd * fload(a.weight, channel) if a.weight else invstd
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


@inner
def gradient(dy, a, i, c, n):
    """The gradient to n lanes of x, given dy: scale dy + slope (x - centre) + shift."""
    deviation = vload_n(a.x, i, n) - vconst_n(a.coefficients, c, n)
    shift, slope = vconst_n(a.coefficients, 2 * a.width + c, n), vconst_n(a.coefficients, 3 * a.width + c, n)
    return vfma(dy, vconst_n(a.coefficients, a.width + c, n), vfma(deviation, slope, shift))


def gradients(
    kernel: Job,
    x: np.ndarray,
    rows: Rows,
    forward: np.ndarray,
    weight: np.ndarray | None,
    mean: np.ndarray,
    invstd: np.ndarray,
    *,
    constant: bool,
    **sources: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """dγ, dβ and the coefficients for dx. One pass over what `kernel`, a job with a `summing` loop, reads.

    `forward` are coefficients whose first row holds the means; `sources` the kernel's own arguments.
    """
    add, finish, floats = _gradients_plan(kernel, rows, constant)
    dweight, dbias = empty(mean.shape), empty(mean.shape)
    coefficients, sums = workspace("gradient coefficients", 4 * rows.width), workspace("sums", floats)
    add(x=x, coefficients=forward, sums=sums, **sources)
    finish(sums=sums, weight=vector(weight), mean=contiguous(mean), invstd=contiguous(invstd), dweight=dweight,
           dbias=dbias, coefficients=coefficients)
    return dweight, dbias, coefficients


@functools.lru_cache(512)
def _gradients_plan(
    kernel: Job, rows: Rows, constant: bool
) -> tuple[Callable[..., None], Callable[..., None], int]:
    """Two calls, and the floats of their workspace."""
    parts = min(rows.threads, rows.blocks)
    pitch = (3 * 8 + 3 * 4) * rows.width
    add = kernel.plan(
        rows.blocks, threads=parts, size=rows.size, width=rows.width, height=rows.height, pitch=pitch)
    finish = _finish_gradients.plan(
        rows.channels, threads=share(parts * rows.width), width=rows.width, channels=rows.channels, size=rows.size,
        pitch=pitch, parts=parts, constant=constant)
    return add, finish, pitch * parts // 4
