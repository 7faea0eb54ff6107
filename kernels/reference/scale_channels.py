"""Each channel of each sample multiplied by a number of its own, and the gradients."""

from __future__ import annotations

import numpy as np

from ._out import deliver


def _over(scale: np.ndarray, x: np.ndarray) -> np.ndarray:
    return scale.reshape(*scale.shape, *[1] * (x.ndim - 2))


def scale_channels(x: np.ndarray, scale: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """y[n, c, ...] = scale[n, c] · x[n, c, ...]: x and y (N, C, H, W), scale (N, C).

    Source: Hu et al. (2018), "Squeeze-and-excitation networks", arXiv:1709.01507, equation 4.
    """
    return deliver(_over(scale, x) * x, out, x.dtype)


def scale_channels_backward(
    dy: np.ndarray, x: np.ndarray, scale: np.ndarray, *, out: tuple[np.ndarray, np.ndarray] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """dx = scale · dy and dscale[n, c] = Σ_hw dy[n, c] · x[n, c]: dx of x's shape, dscale (N, C)."""
    dx_out, dscale_out = out or (None, None)
    dscale = (dy * x).sum(axis=(2, 3))
    return deliver(_over(scale, x) * dy, dx_out, x.dtype), deliver(dscale, dscale_out, x.dtype)
