"""The fully connected layer, float32: matrix products by NumPy's BLAS, on as many threads as the kernels use.

A product of (M, K) and (K, N) takes 2 M K N operations, which BLAS does near the FMA peak where all three are large;
with few rows it is bound by reading the weight once.

BLAS has threads of its own. threadpoolctl sets their number, for every BLAS library in the process, when
`set_num_threads` has changed ours; without threadpoolctl BLAS uses as many as it likes (OPENBLAS_NUM_THREADS and the
like bound it then).
"""

from __future__ import annotations

import functools

import numpy as np

from ._driver import get_num_threads
from ._layout import contiguous, deliver
from ._memory import empty
from ._reduce import column_sums

try:
    from threadpoolctl import ThreadpoolController
except ModuleNotFoundError:
    ThreadpoolController = None


@functools.lru_cache(maxsize=1)
def _bound_blas(threads: int) -> None:
    """Set BLAS's number of threads; the cache of one entry makes it a call for each change."""
    if ThreadpoolController is not None:
        ThreadpoolController().limit(limits=threads, user_api="blas")


def _product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    _bound_blas(get_num_threads())
    return np.matmul(a, b, out=empty((a.shape[0], b.shape[1])))


def linear(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None, *, out: np.ndarray | None = None
) -> np.ndarray:
    """y = x weightᵀ + bias: (M, in), (out, in), (out,) → (M, out)."""
    y = _product(contiguous(x), contiguous(weight).T)
    if bias is not None:
        y += bias
    return deliver(y, out)


def linear_dgrad(dy: np.ndarray, weight: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """The gradient to the input, dx = dy weight: (M, out), (out, in) → (M, in)."""
    return deliver(_product(contiguous(dy), contiguous(weight)), out)


def linear_wgrad(dy: np.ndarray, x: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """The gradient to the weight, dweight = dyᵀ x: (M, out), (M, in) → (out, in)."""
    return deliver(_product(contiguous(dy).T, contiguous(x)), out)


def linear_bgrad(dy: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """The gradient to the bias, dbias = Σ_m dy[m]: (M, out) → (out,). Reads dy once."""
    return deliver(column_sums(contiguous(dy), dy.shape[1]), out)
