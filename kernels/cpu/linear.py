"""The fully connected layer, float32: matrix products by NumPy's BLAS on one thread, large ones on all threads by ours.

A product of (M, K) and (K, N) takes 2 M K N operations, which BLAS does near the FMA peak where all three are large;
with few rows it is bound by reading the weight once. All values of `precision` are strict float32.

BLAS has threads of its own, which go on spinning for tens of milliseconds after a product, on the cores that the next
kernels want: one Linear made networks twice as slow. So threadpoolctl holds every BLAS library in the process to one
thread (without it OPENBLAS_NUM_THREADS=1 and the like do), and what is worth sharing runs as a 1 x 1 convolution.
"""

from __future__ import annotations

import functools

import numpy as np

from ._driver import get_num_threads
from ._layout import contiguous, deliver
from ._memory import empty
from ._reduce import column_sums
from .conv2d import conv2d, conv2d_dgrad, conv2d_wgrad

try:
    from threadpoolctl import ThreadpoolController
except ModuleNotFoundError:
    ThreadpoolController = None

_LARGE = 1 << 23  # multiplications that are worth sharing: a tenth of a millisecond
_FEW = 16  # rows below which a product is bound by reading the weight, which packing would read once more


@functools.lru_cache(maxsize=1)
def _hold_blas() -> None:
    """Keep BLAS to one thread; the cache makes it one call for all."""
    if ThreadpoolController is not None:
        ThreadpoolController().limit(limits=1, user_api="blas")


def _product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    _hold_blas()
    return np.matmul(a, b, out=empty((a.shape[0], b.shape[1])))


def _is_shared(rows: int, weight_shape: tuple[int, int]) -> bool:
    return get_num_threads() > 1 and rows >= _FEW and rows * weight_shape[0] * weight_shape[1] >= _LARGE


def _pixels(x: np.ndarray) -> np.ndarray:
    """Rows as images of one pixel, a weight as filters of one."""
    return x[:, :, None, None]


def linear(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None, *, precision: str = "highest",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """y = x weightᵀ + bias: (M, in), (out, in), (out,) → (M, out)."""
    if _is_shared(len(x), weight.shape):
        return deliver(conv2d(_pixels(x), _pixels(weight), bias)[:, :, 0, 0], out)
    y = _product(contiguous(x), contiguous(weight).T)
    if bias is not None:
        y += bias
    return deliver(y, out)


def linear_dgrad(
    dy: np.ndarray, weight: np.ndarray, *, precision: str = "highest", out: np.ndarray | None = None
) -> np.ndarray:
    """The gradient to the input, dx = dy weight: (M, out), (out, in) → (M, in)."""
    if _is_shared(len(dy), weight.shape):
        dx = conv2d_dgrad(_pixels(dy), _pixels(weight), (len(dy), weight.shape[1], 1, 1))
        return deliver(dx[:, :, 0, 0], out)
    return deliver(_product(contiguous(dy), contiguous(weight)), out)


def linear_wgrad(
    dy: np.ndarray, x: np.ndarray, *, precision: str = "highest", out: np.ndarray | None = None
) -> np.ndarray:
    """The gradient to the weight, dweight = dyᵀ x: (M, out), (M, in) → (out, in)."""
    if _is_shared(len(x), (dy.shape[1], x.shape[1])):
        if len(x) < 64:  # short sums: what counts is to write dweight once, in its order
            dweight = conv2d(_pixels(dy.T), _pixels(x.T))
        else:
            dweight = conv2d_wgrad(_pixels(dy), _pixels(x), (dy.shape[1], x.shape[1], 1, 1))
        return deliver(dweight[:, :, 0, 0], out)
    return deliver(_product(contiguous(dy).T, contiguous(x)), out)


def linear_bgrad(dy: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """The gradient to the bias, dbias = Σ_m dy[m]: (M, out) → (out,). Reads dy once."""
    return deliver(column_sums(contiguous(dy), dy.shape[1]), out)
