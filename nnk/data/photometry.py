"""Augmentations that change values: brightness, contrast, colour, blur, noise, holes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nnk import backend
from nnk.nn.arguments import Pair, integer, pair

from .augment import Augmentation, Draws, beside, interval, probability
from .statistics import Moments, batches_of, pixels, principal_axes

LUMA = np.array([0.299, 0.587, 0.114])  # of red, green and blue, ITU-R BT.601


class ColorJitter(Augmentation):
    """Change brightness and contrast: ``y = c (b x) + (1 - c) m`` with factors b and c and m, the mean grey of b x.

    Grey is 0.299 R + 0.587 G + 0.114 B for three channels and the mean of the channels otherwise. Values are not
    clipped. Brightness means something only where 0 is black, so put `Normalize` behind it.

    Args:
        brightness: range of b; a number d stands for (1 - d, 1 + d), but nothing below 0.
        contrast: range of c, likewise.

    Raises:
        ValueError: a negative factor.
    """

    def __init__(self, brightness: float | Sequence[float] = 0.0, contrast: float | Sequence[float] = 0.0):
        self.brightness = interval(brightness, "brightness", around=1.0, least=0.0)
        self.contrast = interval(contrast, "contrast", around=1.0, least=0.0)

    def __call__(self, images: np.ndarray, draws: Draws) -> np.ndarray:
        """Change the images (N, C, H, W)."""
        channels = images.shape[1]
        low, high = np.array([self.brightness, self.contrast]).T
        brightness, contrast = draws.uniform(low, high, 2).T
        grey = LUMA if channels == 3 else np.full(channels, 1 / channels)
        brightness, contrast, grey = beside(images, brightness, contrast, grey)
        mean = brightness * (images.mean(axis=(2, 3), dtype=np.float64) @ grey)
        scale, shift = (np.repeat(v[:, None], channels, 1) for v in (contrast * brightness, (1 - contrast) * mean))
        return _scale_shift(images, scale, shift)


class PCAColorJitter(Augmentation):
    """Shift the colour of each image along the main axes of the colours in the data.

        y = x + Σ_i α_i σ_i p_i,    α_i normal with mean 0 and deviation ``std``

    p_i are the principal directions of the pixels' channel vectors, σ_i the standard deviations along them. (The
    source multiplies by the eigenvalue, σ_i², which depends on the unit of the pixels; that is meant for values whose
    deviation is near 1.)

    Args:
        directions: (C, C), a principal direction in each row; `fit` finds them.
        deviations: (C,), the standard deviation along each.
        std: how far to go.

    Raises:
        ValueError: shapes that do not fit, a negative std; at the call, images of other channels.

    Source: Krizhevsky, Sutskever and Hinton (2012), ImageNet classification with deep convolutional neural networks,
    section 4.1.
    """

    def __init__(self, directions: np.ndarray, deviations: np.ndarray, std: float = 0.1):
        self.directions, self.deviations = np.asarray(directions, np.float64), np.asarray(deviations, np.float64)
        c = len(self.deviations)
        if self.deviations.ndim != 1 or self.directions.shape != (c, c):
            raise ValueError(
                f"directions have shape {self.directions.shape} and deviations {self.deviations.shape}, "
                "expected (C, C) and (C,)"
            )
        self.std = interval(std, "std", least=0.0)[0]

    @classmethod
    def fit(cls, images: Any, std: float = 0.1) -> PCAColorJitter:
        """Take directions and deviations from images: an array, a data set, a `DataLoader`."""
        moments = Moments(covariance=True)
        for batch in batches_of(images):
            moments.add(pixels(batch))
        variances, directions = principal_axes(moments)
        return cls(directions, np.sqrt(variances), std)

    def __call__(self, images: np.ndarray, draws: Draws) -> np.ndarray:
        """Shift the colours of the images (N, C, H, W)."""
        channels = len(self.deviations)
        if images.shape[1] != channels:
            raise ValueError(f"images have shape {images.shape}, expected {channels} channels as the directions have")
        shift = self.std * draws.normal(channels) * self.deviations @ self.directions
        return _scale_shift(images, np.ones_like(shift), shift)

    def __repr__(self) -> str:
        return f"PCAColorJitter({self.directions.tolist()}, {self.deviations.tolist()}, {self.std})"


def _scale_shift(images: np.ndarray, scale: np.ndarray, shift: np.ndarray) -> np.ndarray:
    scale, shift = scale.astype(images.dtype), shift.astype(images.dtype)
    return backend.of(images).scale_shift(images, *beside(images, scale, shift))


class GaussianBlur(Augmentation):
    """Blur each image by a Gaussian of random width, the borders reflected.

    Args:
        kernel_size: taps of the filter, odd.
        sigma: the deviation in pixels, a number or (least, most).

    Raises:
        ValueError: an even ``kernel_size``, a ``sigma`` that is not positive.
    """

    def __init__(self, kernel_size: int, sigma: float | Sequence[float] = (0.1, 2.0)):
        self.kernel_size = integer(kernel_size, "kernel_size", least=1)
        if self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size is {kernel_size}, expected an odd number")
        self.sigma = interval(sigma, "sigma")
        if self.sigma[0] <= 0:
            raise ValueError(f"sigma is {sigma!r}, expected positive deviations")

    def __call__(self, images: np.ndarray, draws: Draws) -> np.ndarray:
        """Blur the images (N, C, H, W)."""
        places = np.arange(self.kernel_size) - self.kernel_size // 2
        weights = np.exp(-0.5 * (places / draws.uniform(*self.sigma)) ** 2)
        weights /= weights.sum(axis=1, keepdims=True)
        return backend.of(images).blur2d(images, *beside(images, weights.astype(images.dtype)))


class GaussianNoise(Augmentation):
    """Add normal noise to every value: ``y = x + σ z``.

    Args:
        sigma: the deviation, a number or (least, most), in the units of the pixels.

    Raises:
        ValueError: a negative sigma.
    """

    def __init__(self, sigma: float | Sequence[float] = 0.1):
        self.sigma = interval(sigma, "sigma", least=0.0)

    def __call__(self, images: np.ndarray, draws: Draws) -> np.ndarray:
        """Add noise to the images (N, C, H, W)."""
        std = draws.uniform(*self.sigma)[:, 0].astype(images.dtype)
        key = {"seed": draws.seed, "call": draws.epoch, "stream": draws.stream}
        return backend.of(images).image_noise(images, *beside(images, std, draws.samples), **key)


class Cutout(Augmentation):
    """Set a box around a random pixel to ``fill``; the part of it outside the image is lost.

    Args:
        size: of the box, an int or (height, width).
        p: share of the images to cut.
        fill: value in the box; behind `Normalize`, 0 is the mean.

    Raises:
        ValueError: a size below 1, a p outside 0…1.

    Source: DeVries and Taylor (2017), Improved regularization of convolutional neural networks with cutout.
    """

    def __init__(self, size: Pair, p: float = 1.0, *, fill: float = 0.0):
        self.size = pair(size, "size", least=1)
        self.p = probability(p)
        self.fill = float(fill)

    def __call__(self, images: np.ndarray, draws: Draws) -> np.ndarray:
        """Cut the images (N, C, H, W)."""
        numbers = draws.uniform(0, 1, 3)
        boxes = boxes_around(numbers[:, :2], self.size, images.shape)
        boxes[numbers[:, 2] >= self.p] = 0
        nobody = np.full(len(images), -1)
        return backend.of(images).paste2d(images, *beside(images, boxes, nobody), fill=self.fill)


def boxes_around(centres: np.ndarray, sizes: Pair | np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return boxes (top, left, bottom, right), (N, 4), as far as they lie in images of this shape.

    ``centres`` (N, 2) hold the places (down, across) of the middle pixels, from 0 to 1.
    """
    limits = np.array(shape[2:])
    sizes = np.broadcast_to(np.asarray(sizes, np.int64), (len(centres), 2))
    first = (centres * limits).astype(np.int64) - sizes // 2
    return np.concatenate([np.clip(first, 0, limits), np.clip(first + sizes, 0, limits)], axis=1)
