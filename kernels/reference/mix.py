"""Mixtures of two samples of a batch."""

from __future__ import annotations

import numpy as np

from ._out import deliver


def mix(x: np.ndarray, partners: np.ndarray, shares: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """y[n] = λ_n x[n] + (1 - λ_n) x[partners[n]]: x and y (N, C, H, W), partners (N,) ints, shares λ (N,).

    Source: Zhang et al. (2018), mixup: beyond empirical risk minimization, equation 1.
    """
    shares = shares[:, None, None, None]
    return deliver(shares * x + (1 - shares) * x[partners], out, x.dtype)
