"""Transforms of whole image batches, for the ``transform`` of a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from .augment import beside
from .statistics import channel_statistics


class Compose:
    """Apply transforms one after the other: ``Compose([f, g])(x) == g(f(x))``."""

    def __init__(self, transforms: Iterable[Callable[[np.ndarray], np.ndarray]]):
        self.transforms = tuple(transforms)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Transform a batch."""
        for transform in self.transforms:
            images = transform(images)
        return images

    def __repr__(self) -> str:
        return f"Compose({list(self.transforms)})"


class Normalize:
    """Shift and scale each channel: ``y[:, c] = (x[:, c] - mean[c]) / std[c]``, in float32.

    Takes (N, C, H, W) or (C, H, W) of any real dtype, in the units of ``mean`` and ``std``.

    Args:
        mean: one value per channel, or one for all.
        std: one positive value per channel, or one for all.

    Raises:
        ValueError: ``mean`` or ``std`` is not finite, not a number or a flat sequence, they differ in length,
            or a ``std`` is not positive; at the call, images whose channels do not match.
    """

    def __init__(self, mean: float | Sequence[float] | np.ndarray, std: float | Sequence[float] | np.ndarray):
        self.mean = np.atleast_1d(np.asarray(mean, np.float32))
        self.std = np.atleast_1d(np.asarray(std, np.float32))
        if self.mean.ndim != 1 or self.mean.shape != self.std.shape:
            raise ValueError(f"mean is {mean} and std {std}, expected one number per channel in each")
        if not np.isfinite(self.mean).all() or not np.isfinite(self.std).all() or not (self.std > 0).all():
            raise ValueError(f"mean is {mean} and std {std}, expected finite numbers and a positive std")

    @classmethod
    def fit(cls, images: Any) -> Normalize:
        """Take mean and standard deviation of each channel over images: an array, a data set, a `DataLoader`.

        A channel that is constant gets std 1, so that it becomes zero.
        """
        mean, std = channel_statistics(images)
        return cls(mean, np.where(std > 0, std, 1.0))

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Normalise a batch (N, C, H, W) or an image (C, H, W) into a new float32 array."""
        channels = len(self.mean)
        if images.ndim not in (3, 4) or channels not in (1, images.shape[-3]):
            raise ValueError(
                f"images have shape {images.shape}, expected (N, {channels}, H, W) or ({channels}, H, W), as mean and "
                f"std are of {channels} channels"
            )
        mean, std = beside(images, self.mean[:, None, None], self.std[:, None, None])
        normalized = np.subtract(images, mean, dtype=np.float32)
        normalized /= std
        return normalized

    def inverse(self, normalized: np.ndarray) -> np.ndarray:
        """Return the images that become ``normalized``, float32."""
        mean, std = beside(normalized, self.mean[:, None, None], self.std[:, None, None])
        return normalized * std + mean

    def __repr__(self) -> str:
        return f"Normalize(mean={self.mean.tolist()}, std={self.std.tolist()})"
