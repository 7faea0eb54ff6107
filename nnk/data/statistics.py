"""Statistics over a data set of any size, from batches, with a few numbers kept in between."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from .datasets import Dataset

CHUNK = 1 << 22  # numbers looked at together


def batches_of(images: Any) -> Iterator[np.ndarray]:
    """Yield batches (N, C, H, W).

    Args:
        images: an array (N, C, H, W); a data set with `batch`; or batches, arrays or tuples that begin with one, such
            as a `DataLoader` gives.

    Raises:
        ValueError: something is not (N, C, H, W), or there is not one image.
    """
    count = 0
    for batch in _batches(images):
        if np.ndim(batch) != 4:
            raise ValueError(f"images have shape {np.shape(batch)}, expected (N, C, H, W) and not empty")
        if batch.size:
            count += len(batch)
            yield batch
    if not count:
        raise ValueError("images are none, expected (N, C, H, W) and not empty")


def _batches(images: Any) -> Iterable[np.ndarray]:
    if isinstance(images, np.ndarray):
        step = max(1, CHUNK // max(1, images[:1].size))
        return (images[i : i + step] for i in range(0, len(images), step))
    if isinstance(images, Dataset) and hasattr(images, "batch"):
        step = max(1, CHUNK // max(1, images[0][0].size)) if len(images) else 1
        return (images.batch(range(i, min(i + step, len(images))))[0] for i in range(0, len(images), step))
    return (batch[0] if isinstance(batch, (tuple, list)) else batch for batch in images)


def pixels(images: np.ndarray) -> np.ndarray:
    """Return the channel vectors of all pixels, (N · H · W, C)."""
    return images.transpose(0, 2, 3, 1).reshape(-1, images.shape[1])


class Moments:
    """Mean and covariance (or variances alone) of the rows of all matrices (n, d) added so far, in float64.

    A batch of n_b rows with mean m_b and squares S_b = Σ (x - m_b)² joins n rows with mean m and squares S by

        δ = m_b - m,    S ← S + S_b + δ² n n_b / (n + n_b),    m ← m + δ n_b / (n + n_b)

    with outer products δ δᵀ in place of squares for the covariance. Nothing cancels, however large the mean.

    Source: Chan, Golub and LeVeque (1979), Updating formulae and a pairwise algorithm for computing sample variances,
    equation 1.5.
    """

    def __init__(self, *, covariance: bool):
        self._multiply = (lambda a, b: a.T @ b) if covariance else (lambda a, b: (a * b).sum(axis=0))
        self.count = 0
        self.mean: Any = 0.0
        self._squares: Any = 0.0

    def add(self, rows: np.ndarray) -> None:
        """Add rows (n, d)."""
        n, rows = len(rows), rows.astype(np.float64)
        mean = rows.mean(axis=0)
        rows -= mean
        delta = (mean - self.mean)[None]
        total = self.count + n
        self._squares = (
            self._squares + self._multiply(rows, rows) + self._multiply(delta, delta) * (self.count * n / total)
        )
        self.mean = self.mean + delta[0] * (n / total)
        self.count = total

    @property
    def variance(self) -> np.ndarray:
        """The biased variances (d,), or the covariance matrix (d, d)."""
        return self._squares / self.count


def image_moments(images: Any, *, covariance: bool) -> tuple[Moments, tuple[int, int, int]]:
    """Return the moments of images as vectors of C · H · W numbers, and (C, H, W); `images` as in `batches_of`."""
    moments, shape = Moments(covariance=covariance), None
    for batch in batches_of(images):
        shape = shape or batch.shape[1:]
        if batch.shape[1:] != shape:
            raise ValueError(f"images have shapes {shape} and {batch.shape[1:]}, expected one (C, H, W)")
        moments.add(batch.reshape(len(batch), -1))
    return moments, shape


def mean_image(images: Any) -> np.ndarray:
    """Return the mean over all images, float64 (C, H, W); `images` as in `batches_of`."""
    moments, shape = image_moments(images, covariance=False)
    return moments.mean.reshape(shape)


def channel_statistics(images: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and (biased) standard deviation of each channel over all pixels, float64 (C,) each.

    `images` as in `batches_of`; they may differ in height and width from batch to batch.
    """
    moments = Moments(covariance=False)
    for batch in batches_of(images):
        moments.add(pixels(batch))
    return moments.mean, np.sqrt(moments.variance)


def principal_axes(moments: Moments) -> tuple[np.ndarray, np.ndarray]:
    """Return the variances along the principal axes, largest first, (d,), and the axes as rows, (d, d).

    The entry of largest magnitude of each axis is positive, so that the axes do not depend on the LAPACK at hand.
    """
    variances, columns = np.linalg.eigh(moments.variance)
    variances, axes = np.maximum(variances[::-1], 0), columns.T[::-1]
    largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=1)[:, None], axis=1)
    return variances, axes * np.sign(largest)
