"""Gaussian noise on images, float32, in channels-last memory.

The formula and the random numbers are those of `kernels/reference/image_noise.py`: the same noise on the same sample
in any batch, for any vector width, thread count and memory layout. A job is an image. 8 bytes an element; the generator
and the normal numbers take about 40 operations.
"""

from __future__ import annotations

import numpy as np

from ._driver import INT, PTR, job, share
from ._layout import channels_last, deliver, empty_like_image
from ._philox import COUNTERS, normals, philox
from .simd import L, fload, lload, vfma, vload_n, vsplat, vstore_n

_DRAWS = 4 * COUNTERS  # elements that share the words of COUNTERS counters


@job(x=PTR, y=PTR, std=PTR, samples=PTR, size=INT, seed_low=INT, seed_high=INT, call=INT, stream=INT)
def _noise_images(first, last, thread, a):
    for image in range(first, last):
        std, sample = vsplat(fload(a.std, image)), lload(a.samples, image)
        for start in range(0, a.size, _DRAWS):
            for i in range(0, COUNTERS, L):
                counter = start // 4 + i + (a.stream << 32)
                z = normals(philox(counter, sample, a.call, a.seed_low, a.seed_high))
                for w in range(4):
                    e = start + w * COUNTERS + i
                    at, n = image * a.size + e, a.size - e
                    vstore_n(a.y, at, vfma(std, z[w], vload_n(a.x, at, n)), n)


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
    """y[n] = x[n] + std[n] * z, z standard normal, drawn for (seed, call, stream, samples[n]) and the element.

    x and y (N, C, H, W), std and samples (N,). Reads x, writes y.
    """
    x = channels_last(x)
    n, c, h, w = x.shape
    std, samples = np.ascontiguousarray(std, np.float32), np.ascontiguousarray(samples, np.int64)
    y = empty_like_image(x)
    _noise_images(
        n, threads=share(4 * x.size), x=x, y=y, std=std, samples=samples, size=c * h * w,
        seed_low=seed & 0xFFFFFFFF, seed_high=seed >> 32 & 0xFFFFFFFF, call=call, stream=stream)
    return deliver(y, out)
