"""Whitening: images turned into numbers that are uncorrelated and of equal variance over the data set."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnk import backend
from nnk.nn.arguments import integer

from .augment import beside
from .statistics import image_moments, principal_axes


class _Whitening:
    """A linear map of images, less their mean: ``y = W (x - mean)``, and the way back."""

    def __init__(self, mean: np.ndarray, forth: np.ndarray, back: np.ndarray, shape: tuple[int, ...]):
        self.mean = mean.astype(np.float32)  # (C, H, W)
        self._forth = forth.astype(np.float32)  # (k, C · H · W)
        self._back = back.astype(np.float32)  # (C · H · W, k)
        self._shape = shape  # of a result

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Whiten a batch (N, C, H, W) of any real dtype, in float32; raise ValueError on another (C, H, W)."""
        if images.ndim != 4 or images.shape[1:] != self.mean.shape:
            raise ValueError(f"images have shape {images.shape}, expected (N, *{self.mean.shape})")
        mean, forth = beside(images, self.mean, self._forth)
        centred = np.subtract(images, mean, dtype=np.float32).reshape(len(images), -1)
        return backend.of(centred).linear(centred, forth).reshape(-1, *self._shape)

    def inverse(self, whitened: np.ndarray) -> np.ndarray:
        """Return the images (N, C, H, W) that become ``whitened``, as near as the components kept allow."""
        rows = backend.as_array(whitened).astype(np.float32, copy=False).reshape(len(whitened), -1)
        mean, back = beside(rows, self.mean, self._back)
        return backend.of(rows).linear(rows, back).reshape(-1, *self.mean.shape) + mean


def _fit(images: Any, eps: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean (C, H, W), standard deviations along the principal axes, with eps in the variance, and the axes as rows."""
    if not eps > 0:
        raise ValueError(f"eps is {eps!r}, expected a positive number")
    moments, shape = image_moments(images, covariance=True)
    variances, axes = principal_axes(moments)
    return moments.mean.reshape(shape), np.sqrt(variances + eps), axes


class PCAWhitening(_Whitening):
    """Images as uncorrelated numbers of variance 1: ``y_i = u_i · (x - mean) / √(λ_i + ε)``, (N, k).

    u_i are the principal axes of the images as vectors, λ_i the variances along them, largest first. Made by `fit`; a
    transform of batches, with `inverse` for the way back.

    Source: Hyvärinen, Hurri and Hoyer (2009), Natural image statistics, section 5.3.
    """

    @classmethod
    def fit(cls, images: Any, components: int | None = None, *, eps: float = 1e-5) -> PCAWhitening:
        """Find mean and axes.

        Takes 8 · (C · H · W)² bytes, and images from batches, so that they need not all be in memory.

        Args:
            images: as in `batches_of`: an array, a data set, a `DataLoader`.
            components: how many axes to keep; None keeps all.
            eps: ε, added to each variance, in the square of the images' unit: directions in which they hardly vary are
                not blown up.

        Raises:
            ValueError: no images, more components than C · H · W, an ε that is not positive.
        """
        mean, deviations, axes = _fit(images, eps)
        if components is not None:
            if integer(components, "components", least=1) > len(axes):
                raise ValueError(f"components is {components}, expected at most {len(axes)}")
            deviations, axes = deviations[:components], axes[:components]
        return cls(mean, axes / deviations[:, None], axes.T * deviations, (len(axes),))


class ZCAWhitening(_Whitening):
    """Uncorrelated images that still look like the images: ``y = Σ_i u_i (u_i · (x - mean)) / √(λ_i + ε)``.

    PCA whitening, turned back: of all whitenings the one that changes the images least. Made by `fit`; a transform of
    batches (N, C, H, W), with `inverse` for the way back.

    Sources: Bell and Sejnowski (1997), The "independent components" of natural scenes are edge filters; Krizhevsky
    (2009), Learning multiple layers of features from tiny images, appendix A.
    """

    @classmethod
    def fit(cls, images: Any, *, eps: float = 1e-5) -> ZCAWhitening:
        """Find mean and axes; arguments and errors as in `PCAWhitening.fit`."""
        mean, deviations, axes = _fit(images, eps)
        return cls(mean, axes.T / deviations @ axes, axes.T * deviations @ axes, mean.shape)
