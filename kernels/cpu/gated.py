"""GELU, SiLU, swish and mish, float32, any shape; formulas and sources in `kernels/reference/gated.py`.

Outputs keep the input's memory order. A forward reads x and writes y, 8 bytes an element, a backward reads dy and x and
writes dx, 12 bytes.
"""

from __future__ import annotations

import math

import numpy as np

from ._blocks import BLOCK, FULL, backward, blocks, forward, pointwise
from ._compile import inner
from ._driver import FLOAT, INT, PTR, job, share
from ._layout import deliver, dense, empty_like, like
from ._math import verf, vexp_low, vsigmoid
from ._memory import workspace
from .simd import L, fstore, vabs, vclip, vfma, vload_n, vselect, vsplat, vstore_n, vsum

_SPAN = 64 * L  # floats that each lane sums 64 of in a row
_SQRT_HALF = np.float32(math.sqrt(0.5))
_DENSITY = np.float32(1 / math.sqrt(2 * math.pi))  # of the normal distribution at 0
_TANH_1, _TANH_3 = np.float32(2 * math.sqrt(2 / math.pi)), np.float32(2 * math.sqrt(2 / math.pi) * 0.044715)


# ---------------------------------------------------------------- GELU
@inner
def _normal_below(x):
    return vfma(verf(x * _SQRT_HALF), vsplat(0.5), vsplat(0.5))


@pointwise(x=PTR)
def _gelu_blocks(a, i, n):
    x = vload_n(a.x, i, n)
    return x * _normal_below(x)


@pointwise(dy=PTR, saved=PTR)
def _gelu_backward_blocks(a, i, n):
    x = vload_n(a.saved, i, n)
    slope = vfma(x, _DENSITY * vexp_low(-0.5 * x * x), _normal_below(x))
    return vload_n(a.dy, i, n) * slope


@inner
def _near(x):
    """x, but where the step is 0 or 1 no farther out than squares can be taken."""
    return vclip(x, -100.0, 100.0)


@inner
def _tanh_step(x):
    """(1 + tanh u) / 2, which is the logistic function at 2 u."""
    return vsigmoid(x * vfma(x * x, vsplat(_TANH_3), vsplat(_TANH_1)))


@pointwise(x=PTR)
def _gelu_tanh_blocks(a, i, n):
    x = vload_n(a.x, i, n)
    return x * _tanh_step(_near(x))


@pointwise(dy=PTR, saved=PTR)
def _gelu_tanh_backward_blocks(a, i, n):
    x = vload_n(a.saved, i, n)
    near = _near(x)
    step = _tanh_step(near)
    slope = step * (1 - step) * vfma(near * near, vsplat(3 * _TANH_3), vsplat(_TANH_1))
    return vload_n(a.dy, i, n) * vfma(x, slope, step)


# ---------------------------------------------------------------- SiLU and swish
@pointwise(x=PTR, beta=FLOAT)
def _silu_blocks(a, i, n):
    x = vload_n(a.x, i, n)
    return x * vsigmoid(a.beta * x)


@inner
def _silu_slopes(x, beta):
    """The derivative to x, and that to beta over x."""
    step = vsigmoid(beta * x)
    rise = x * (step * (1 - step))
    return vfma(vsplat(beta), rise, step), rise


@pointwise(dy=PTR, saved=PTR, beta=FLOAT)
def _silu_backward_blocks(a, i, n):
    slope, _ = _silu_slopes(vload_n(a.saved, i, n), a.beta)
    return vload_n(a.dy, i, n) * slope


@inner
def _swish_backward(a, i, n):
    """n lanes of dx, written, and of the terms of dbeta."""
    x, dy = vload_n(a.x, i, n), vload_n(a.dy, i, n)
    slope, rise = _silu_slopes(x, a.beta)
    vstore_n(a.dx, i, dy * slope, n)
    return dy * x * rise


@inner
def _swish_backward_span(a, start, stop):
    total = vsplat(0.0)
    for i in range(start, stop - L + 1, L):
        total = total + _swish_backward(a, i, FULL)
    tail = (stop - start) % L
    if tail:
        total = total + _swish_backward(a, stop - tail, tail)
    return vsum(total)


@job(dy=PTR, x=PTR, dx=PTR, sums=PTR, n=INT, beta=FLOAT)
def _swish_backward_blocks(first, last, thread, a):
    """dx, and each block's share of dbeta."""
    for block in range(first, last):
        total, stop = 0.0, min((block + 1) * BLOCK, a.n)
        for start in range(block * BLOCK, stop, _SPAN):
            total += _swish_backward_span(a, start, min(start + _SPAN, stop))
        fstore(a.sums, block, total)


# ---------------------------------------------------------------- mish
@inner
def _mish_step(x):
    """q = e**-|x|, and the two parts of tanh(log(1 + e**x)) = ((1 + e**x)**2 - 1) / ((1 + e**x)**2 + 1).

    For x > 0 both are divided by e**2x, so that nothing overflows.
    """
    q = vexp_low(-vabs(x))
    above = vselect(x > 0, q + q + 1, q * (q + 2))
    return q, above, above + vselect(x > 0, 2 * q * q, 2)


@pointwise(x=PTR)
def _mish_blocks(a, i, n):
    x = vload_n(a.x, i, n)
    _, above, below = _mish_step(x)
    return x * (above / below)


@pointwise(dy=PTR, saved=PTR)
def _mish_backward_blocks(a, i, n):
    x = vload_n(a.saved, i, n)
    q, above, below = _mish_step(x)
    over = 1 / below
    rise = 4 * (1 + q) * vselect(x > 0, q * q, q) * over * over  # (1 - step**2) times the logistic function
    return vload_n(a.dy, i, n) * vfma(x, rise, above * over)


# ---------------------------------------------------------------- functions
def gelu(x: np.ndarray, *, approximate: str = "none", out: np.ndarray | None = None) -> np.ndarray:
    """x (1 + erf(x / sqrt 2)) / 2, or the approximation "tanh" of it."""
    return forward(_gelu_tanh_blocks if approximate == "tanh" else _gelu_blocks, x, out)


def gelu_backward(
    dy: np.ndarray, x: np.ndarray, *, approximate: str = "none", out: np.ndarray | None = None
) -> np.ndarray:
    """Gradient to gelu's input: dy (Φ(x) + x φ(x)), with the normal distribution Φ and its density φ."""
    return backward(_gelu_tanh_backward_blocks if approximate == "tanh" else _gelu_backward_blocks, dy, x, out)


def silu(x: np.ndarray, *, beta: float = 1.0, out: np.ndarray | None = None) -> np.ndarray:
    """x / (1 + e**(-beta x))."""
    return forward(_silu_blocks, x, out, beta=beta)


def silu_backward(dy: np.ndarray, x: np.ndarray, *, beta: float = 1.0, out: np.ndarray | None = None) -> np.ndarray:
    """Gradient to silu's input: dy (s + beta x s (1 - s)), s = 1 / (1 + e**(-beta x))."""
    return backward(_silu_backward_blocks, dy, x, out, beta=beta)


def swish(x: np.ndarray, beta: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """x / (1 + e**(-beta x)), beta (1,)."""
    return forward(_silu_blocks, x, out, beta=beta[0])


def swish_backward(
    dy: np.ndarray, x: np.ndarray, beta: np.ndarray, *, out: tuple[np.ndarray, np.ndarray] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """dx as in `silu_backward`, and dbeta = Σ dy x**2 s (1 - s), (1,). One pass over both."""
    x = dense(x)
    dy, dx = like(dy, x), empty_like(x)
    jobs = blocks(x.size)
    sums = workspace("swish", jobs)[:jobs]
    _swish_backward_blocks(jobs, threads=share(x.size), dy=dy, x=x, dx=dx, sums=sums, n=x.size, beta=beta[0])
    dbeta = np.array([sums.sum(dtype=np.float64)], np.float32)
    dx_out, dbeta_out = out or (None, None)
    return deliver(dx, dx_out), deliver(dbeta, dbeta_out)


def mish(x: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """x tanh(log(1 + e**x))."""
    return forward(_mish_blocks, x, out)


def mish_backward(dy: np.ndarray, x: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """Gradient to mish's input: dy (w + x (1 - w**2) / (1 + e**-x)), w = tanh(log(1 + e**x))."""
    return backward(_mish_backward_blocks, dy, x, out)
