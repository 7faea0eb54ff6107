"""Gaussian noise on images, a pure function of (seed, call, stream, sample, position)."""

from __future__ import annotations

import numpy as np

from ._out import deliver
from ._philox import LOW, halves, normals, philox


def image_noise(
    x: np.ndarray,
    std: np.ndarray,
    samples: np.ndarray,
    *,
    seed: int,
    call: int,
    stream: int,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """y[n] = x[n] + std[n] · z, z standard normal, drawn for (seed, call, stream, samples[n]) and the element.

    x and y (N, C, H, W), std (N,) float, samples (N,) ints of 32 bits, seed of 64, call and stream of 32. The same
    sample gets the same noise in whatever batch and place it comes. Element e of an image, counted in channels-last
    order (H, W, C), is in block b = e div 64, r = e mod 64: its normal number is that of word r div 16 (see
    `_philox.normals`) of the counter (16 b + r mod 16, stream, samples[n], call) under the key (low seed, high seed).

    Sources: Box and Muller (1958); Salmon et al. (2011).
    """
    n, c, h, w = x.shape
    size = c * h * w
    blocks = -(-size // 64)
    counter = np.empty((n, 16 * blocks, 4), np.uint32)
    counter[..., 0] = np.arange(16 * blocks)
    counter[..., 1] = stream
    counter[..., 2] = (samples.astype(np.uint64) & LOW)[:, None]
    counter[..., 3] = call
    z = normals(philox(counter, halves(seed)))
    z = z.reshape(n, blocks, 16, 4).swapaxes(2, 3).reshape(n, 64 * blocks)[:, :size].reshape(n, h, w, c)
    y = x + std[:, None, None, None] * np.moveaxis(z, -1, 1).astype(x.dtype)
    return deliver(y, out, x.dtype)
