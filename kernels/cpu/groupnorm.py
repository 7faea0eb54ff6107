"""Group and instance normalisation, float32. A job is a sample: after the first pass it is in the cache.

With m values x of a group in a sample, γ weight and β bias of their channels, and s = 1/√(σ² + ε):

    forward     y  = (x - μ) γ s + β                                            reads x, writes y
    backward    dβ = Σ dy,   dγ = Σ s dy (x - μ)                                reads dy and x, writes dx
                dx = s (γ dy - Σ γ dy / m - (x - μ) s² Σ γ dy (x - μ) / m)

so forward spends 8 bytes an element and backward 12, while a sample fits the cache; 12 and 20 beyond that. Where there
are too few samples for the threads, a job is a part of a sample: first all parts are summed, then the result is made.

Memory is walked in joined rows as `_rows.py` says, those of each sample by themselves. Statistics keep their digits as
in `_batchnorm.py`: blocks of rows are summed in float32 about their first row, joined in float64 about the sample's
first row, and a group's columns about the group's first value. The mean that backward receives is rounded; it corrects
for that by the mean of x - μ.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ._batchnorm import deviations, moved, vector
from ._blocks import FULL
from ._compile import inner
from ._driver import FLOAT, INT, PTR, Job, job, share
from ._layout import channels_last, deliver, empty_like_image
from ._memory import empty, workspace
from ._reduce import column_sums
from ._rows import BLOCK_ROWS, PAIR, fold
from ._stream import put, streams
from .simd import L, dload, dstore, fload, fstore, vfma, vload_n, vstore_n, vstreamed

Three = tuple[np.ndarray, np.ndarray, np.ndarray]

_SUM, _APPLY = 1, 2  # the steps of a job
_STRIP = 4  # rows
_FORWARD, _BACKWARD = 2 * (8 + 4), 3 * (8 + 4)  # bytes per column for sums: doubles, and floats for one block


# ---------------------------------------------------------------- samples and their parts
class _Cut(NamedTuple):
    """How samples are cut into jobs; `fields` are the kernels' arguments that say so."""

    jobs: int
    threads: int
    fields: dict[str, int]

    def run(self, kernel: Job, bytes_per_column: int, rows_of_coefficients: int, **arguments: object) -> None:
        """Sum and apply: at once where jobs are whole samples."""
        width = self.fields["width"]
        at_once = self.fields["parts"] == 1
        sums = workspace("sums", bytes_per_column // 4 * width * (self.threads if at_once else self.jobs))
        coefficients = workspace("coefficients", rows_of_coefficients * width * self.threads)
        for steps in (_SUM | _APPLY,) if at_once else (_SUM, _APPLY):
            kernel(self.jobs, threads=self.threads, steps=steps, sums=sums, coefficients=coefficients, **self.fields,
                   **arguments)


_FIELDS = {"steps": INT, "size": INT, "channels": INT, "groups": INT, "width": INT, "height": INT, "parts": INT,
           "past_caches": INT, "sums": PTR, "coefficients": PTR}


def _cut(x: np.ndarray, y: np.ndarray, groups: int) -> _Cut:
    samples = x.shape[0] if x.size else 0
    size, threads = x.size // max(samples, 1), share(x.size)
    parts = 1 if samples % threads == 0 or samples >= 4 * threads else threads
    rows = fold(size, x.shape[1])
    height = max(min(BLOCK_ROWS, -(-size // (rows.width * parts))), 1)
    fields = {"size": size, "channels": x.shape[1], "groups": groups, "width": rows.width, "height": height,
              "parts": parts, "past_caches": streams(y, math.gcd(size, rows.width))}
    return _Cut(samples * parts, threads, fields)


@inner
def _bounds(a, part):
    """Where a part of a sample begins and ends, in whole blocks."""
    block = a.height * a.width
    blocks = (a.size + block - 1) // block
    return part * blocks // a.parts * block, min((part + 1) * blocks // a.parts * block, a.size)


# ---------------------------------------------------------------- forward
@inner
def _sum_deviations(a, x, start, stop, sums):
    """Rows of doubles: Σ (x - x₀) and Σ (x - x₀)² from start to stop, x₀ the sample's first row."""
    of_block = sums + 16 * a.width
    for c in range(2 * a.width):
        dstore(sums, c, 0.0)
    while start < stop:  # a shorter last row makes a block of its own
        columns = min(a.width, stop - start)
        rows = min(a.height, (stop - start) // columns)
        block = x + 4 * start
        deviations(block, a.width, rows, columns, of_block)
        for c in range(columns):
            by = np.float64(fload(block, c)) - np.float64(fload(x, c))
            s, t = moved(np.float64(fload(of_block, c)), np.float64(fload(of_block, a.width + c)), rows, by)
            dstore(sums, c, dload(sums, c) + s)
            dstore(sums, a.width + c, dload(sums, a.width + c) + t)
        start += rows * columns


@inner
def _moments(a, x, first, last, sums):
    """Mean and biased variance of the group of channels first to last."""
    origin = np.float64(fload(x, first))
    whole, rest = a.size // a.width, a.size % a.width
    s, t = 0.0, 0.0
    for channel in range(first, last):
        for c in range(channel, min(a.width, a.size), a.channels):
            u, v = 0.0, 0.0
            for part in range(a.parts):
                u += dload(sums + part * _FORWARD * a.width, c)
                v += dload(sums + part * _FORWARD * a.width, a.width + c)
            u, v = moved(u, v, whole + (c < rest), fload(x, c) - origin)
            s, t = s + u, t + v
    count = a.size // a.channels * (last - first)
    return origin + s / count, (t - s * s / count) / count


@inner
def _normalise(a, x, y, i, rows, pitch, c, n, coefficients):
    """y = (x - centre) scale + shift for n lanes, column c, of some rows from offset i."""
    centre, scale = vload_n(coefficients, c, n), vload_n(coefficients, a.width + c, n)
    shift = vload_n(coefficients, 2 * a.width + c, n)
    for at in range(i + c, i + c + rows * pitch, pitch):
        put(y, at, vfma(vload_n(x, at, n) - centre, scale, shift), n, a.past_caches)


@job(x=PTR, y=PTR, weight=PTR, bias=PTR, mean=PTR, var=PTR, eps=FLOAT, **_FIELDS)
def _group_norm(first, last, thread, a):
    per_group = a.channels // a.groups
    for j in range(first, last):
        n, part = j // a.parts, j % a.parts
        x, y = a.x + 4 * n * a.size, a.y + 4 * n * a.size
        start, stop = _bounds(a, part)
        sums = a.sums + (thread if a.parts == 1 else n * a.parts) * _FORWARD * a.width
        if a.steps & _SUM:
            _sum_deviations(a, x, start, stop, sums + part * _FORWARD * a.width)
        if not a.steps & _APPLY:
            continue
        coefficients = a.coefficients + 4 * 3 * thread * a.width
        for g in range(a.groups):
            mean, var = _moments(a, x, g * per_group, (g + 1) * per_group, sums)
            if part == 0:
                fstore(a.mean, n * a.groups + g, mean)
                fstore(a.var, n * a.groups + g, var)
            centre, invstd = np.float32(mean), 1.0 / np.sqrt(var + a.eps)
            for channel in range(g * per_group, (g + 1) * per_group):
                scale = invstd * fload(a.weight, channel) if a.weight else invstd
                shift = np.float64(fload(a.bias, channel)) if a.bias else 0.0
                for c in range(channel, a.width, a.channels):
                    fstore(coefficients, c, centre)
                    fstore(coefficients, a.width + c, scale)
                    fstore(coefficients, 2 * a.width + c, shift + (centre - mean) * scale)
        while start < stop:
            columns = min(a.width, stop - start)
            rows, tail = min(_STRIP, (stop - start) // columns), columns % L
            for c in range(0, columns - tail, L):
                _normalise(a, x, y, start, rows, columns, c, FULL, coefficients)
            if tail:
                _normalise(a, x, y, start, rows, columns, columns - tail, tail, coefficients)
            start += rows * columns
    vstreamed()


def group_norm(
    x: np.ndarray,
    weight: np.ndarray | None,
    bias: np.ndarray | None,
    *,
    num_groups: int,
    eps: float,
    out: Three | None = None,
) -> Three:
    """Normalise → (y, μ, σ²), the statistics (N, num_groups) being what the backward needs. 8 bytes an element."""
    y_out, mean_out, var_out = out or (None, None, None)
    x = channels_last(x)
    y, mean, var = empty_like_image(x), *(empty((x.shape[0], num_groups)) for _ in range(2))
    if not x.size:
        mean[...] = var[...] = 0
    _cut(x, y, num_groups).run(_group_norm, _FORWARD, 3, x=x, y=y, weight=vector(weight), bias=vector(bias), mean=mean,
                            var=var, eps=eps)
    return deliver(y, y_out), deliver(mean, mean_out), deliver(var, var_out)


# ---------------------------------------------------------------- backward
@inner
def _add_gradients(dy, x, pitch, rows, c, n, centre, width, sums):
    """Add Σ dy, Σ dy u and Σ u of some rows, u = x - centre, in n columns from c, at most a pair of vectors."""
    x0, x1 = vload_n(centre, c, n), vload_n(centre, c + L, n - L)
    s0, s1 = vload_n(sums, c, n), vload_n(sums, c + L, n - L)
    t0, t1 = vload_n(sums, width + c, n), vload_n(sums, width + c + L, n - L)
    u0, u1 = vload_n(sums, 2 * width + c, n), vload_n(sums, 2 * width + c + L, n - L)
    for i in range(c, c + rows * pitch, pitch):
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


@inner
def _sum_gradients(a, dy, x, start, stop, centre, sums):
    """Rows of doubles: Σ dy, Σ dy (x - μ) and Σ (x - μ) from start to stop."""
    of_block = sums + 24 * a.width
    for c in range(3 * a.width):
        dstore(sums, c, 0.0)
    while start < stop:  # a shorter last row makes a block of its own
        columns = min(a.width, stop - start)
        rows = min(a.height, (stop - start) // columns)
        tail = columns % PAIR
        for c in range(3 * a.width):
            fstore(of_block, c, 0)
        # A few rows at a time, all their columns: memory is read in its order.
        for row in range(0, rows, _STRIP):
            strip, at = min(_STRIP, rows - row), 4 * (start + row * columns)
            for c in range(0, columns - tail, PAIR):
                _add_gradients(dy + at, x + at, columns, strip, c, PAIR, centre, a.width, of_block)
            if tail:
                _add_gradients(dy + at, x + at, columns, strip, columns - tail, tail, centre, a.width, of_block)
        for k in range(0, 3 * a.width, a.width):
            for c in range(k, k + columns):
                dstore(sums, c, dload(sums, c) + fload(of_block, c))
        start += rows * columns


@inner
def _finish_gradients(a, n, writing, sums, coefficients):
    """Coefficients for dx from the sums of a sample's parts; one of its jobs writes its shares of dγ and dβ."""
    per_group = a.channels // a.groups
    dweight = a.of_samples + 4 * 2 * n * a.channels
    dbias = dweight + 4 * a.channels
    count = a.size // a.channels * per_group
    for g in range(a.groups):
        invstd = 1.0 / np.sqrt(np.float64(fload(a.var, n * a.groups + g)) + a.eps)
        level, product, offset = 0.0, 0.0, 0.0
        for channel in range(g * per_group, (g + 1) * per_group):
            t, u, v = 0.0, 0.0, 0.0
            for at in range(sums, sums + a.parts * _BACKWARD * a.width, _BACKWARD * a.width):
                for c in range(channel, a.width, a.channels):
                    t += dload(at, c)
                    u += dload(at, a.width + c)
                    v += dload(at, 2 * a.width + c)
            weight = np.float64(fload(a.weight, channel)) if a.weight else 1.0
            level, product, offset = level + weight * t, product + weight * u, offset + v
            if writing:
                fstore(dbias, channel, t)
                fstore(dweight, channel, u)
        offset /= count
        slope = -(invstd**3) * (product - offset * level) / count
        shift = -invstd * level / count - slope * offset
        for channel in range(g * per_group, (g + 1) * per_group):
            if writing:
                fstore(dweight, channel, invstd * (fload(dweight, channel) - offset * fload(dbias, channel)))
            scale = invstd * fload(a.weight, channel) if a.weight else invstd
            for c in range(channel, a.width, a.channels):
                fstore(coefficients, a.width + c, scale)
                fstore(coefficients, 2 * a.width + c, shift)
                fstore(coefficients, 3 * a.width + c, slope)


@inner
def _gradient(a, dy, x, dx, i, rows, pitch, c, n, coefficients):
    """dx = scale dy + slope (x - centre) + shift for n lanes, column c, of some rows from offset i."""
    centre, scale = vload_n(coefficients, c, n), vload_n(coefficients, a.width + c, n)
    shift, slope = vload_n(coefficients, 2 * a.width + c, n), vload_n(coefficients, 3 * a.width + c, n)
    for at in range(i + c, i + c + rows * pitch, pitch):
        result = vfma(vload_n(dy, at, n), scale, vfma(vload_n(x, at, n) - centre, slope, shift))
        put(dx, at, result, n, a.past_caches)


@job(dy=PTR, x=PTR, dx=PTR, weight=PTR, mean=PTR, var=PTR, of_samples=PTR, eps=FLOAT, **_FIELDS)
def _group_norm_backward(first, last, thread, a):
    per_group = a.channels // a.groups
    for j in range(first, last):
        n, part = j // a.parts, j % a.parts
        dy, x, dx = a.dy + 4 * n * a.size, a.x + 4 * n * a.size, a.dx + 4 * n * a.size
        start, stop = _bounds(a, part)
        sums = a.sums + (thread if a.parts == 1 else n * a.parts) * _BACKWARD * a.width
        coefficients = a.coefficients + 4 * 4 * thread * a.width
        for g in range(a.groups):
            centre = fload(a.mean, n * a.groups + g)
            for channel in range(g * per_group, (g + 1) * per_group):
                for c in range(channel, a.width, a.channels):
                    fstore(coefficients, c, centre)
        if a.steps & _SUM:
            _sum_gradients(a, dy, x, start, stop, coefficients, sums + part * _BACKWARD * a.width)
        if not a.steps & _APPLY:
            continue
        _finish_gradients(a, n, part == 0, sums, coefficients)
        while start < stop:
            columns = min(a.width, stop - start)
            rows, tail = min(_STRIP, (stop - start) // columns), columns % L
            for c in range(0, columns - tail, L):
                _gradient(a, dy, x, dx, start, rows, columns, c, FULL, coefficients)
            if tail:
                _gradient(a, dy, x, dx, start, rows, columns, columns - tail, tail, coefficients)
            start += rows * columns
    vstreamed()


def group_norm_backward(
    dy: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray | None,
    mean: np.ndarray,
    var: np.ndarray,
    *,
    num_groups: int,
    eps: float,
    out: Three | None = None,
) -> Three:
    """Gradients (dx, dγ, dβ) with `mean` and `var` from `group_norm`. 12 bytes an element."""
    dx_out, dweight_out, dbias_out = out or (None, None, None)
    dy, x = channels_last(dy), channels_last(x)
    channels = x.shape[1]
    dx, of_samples = empty_like_image(x), empty((x.shape[0] if x.size else 0, 2 * channels))
    _cut(x, dx, num_groups).run(
        _group_norm_backward, _BACKWARD, 4, dy=dy, x=x, dx=dx, weight=vector(weight), mean=vector(mean),
        var=vector(var), of_samples=of_samples, eps=eps)
    gradients = column_sums(of_samples, 2 * channels)
    return deliver(dx, dx_out), deliver(gradients[:channels], dweight_out), deliver(gradients[channels:], dbias_out)
