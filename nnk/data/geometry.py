"""Augmentations that move pixels: crops, flips, rotations, scales, shifts."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from nnk import backend
from nnk.nn.arguments import Pair, pair

from .augment import Augmentation, Draws, beside, interval, probability

PADDING_MODES = ("constant", "edge", "reflect", "symmetric")


class RandomCrop(Augmentation):
    """Cut a window of ``size`` out of each image, at a random place, after ``padding`` was put around.

    ``RandomCrop(32, padding=4)`` is what networks for CIFAR are trained with.

    Args:
        size: height and width of the result, an int or (height, width).
        padding: pixels on each side, an int or (above and below, left and right).
        fill: value of the padding in mode "constant".
        padding_mode: "constant", "edge" (the border repeats), "reflect" (around the border pixel) or "symmetric"
            (around the border).

    Raises:
        ValueError: an unknown mode, a negative padding, a size below 1; at the call, images too small.

    Source: He et al. (2016), Deep residual learning, section 4.2.
    """

    def __init__(self, size: Pair, padding: Pair = 0, *, fill: float = 0.0, padding_mode: str = "constant"):
        if padding_mode not in PADDING_MODES:
            raise ValueError(f"padding_mode is {padding_mode!r}, expected one of {PADDING_MODES}")
        self.size = pair(size, "size", least=1)
        self.padding = pair(padding, "padding", least=0)
        self.fill = float(fill)
        self.padding_mode = padding_mode

    def __call__(self, images: np.ndarray, draws: Draws) -> np.ndarray:
        """Crop (N, C, H, W) to (N, C, *size)."""
        places = [self._padded(*axis) for axis in zip(images.shape[2:], self.padding)]
        room = np.array([len(place) for place in places]) - self.size
        if room.min() < 0:
            height, width = (len(place) for place in places)
            raise ValueError(f"images are {height} × {width} with their padding, expected at least size {self.size}")
        first = draws.integers(room + 1, 2)
        rows, columns = (
            place[first[:, axis, None] + np.arange(self.size[axis])] for axis, place in enumerate(places)
        )
        return backend.of(images).gather2d(images, *beside(images, rows, columns), fill=self.fill)

    def _padded(self, size: int, padding: int) -> np.ndarray:
        """Where each place of a padded row comes from; -1 is the fill value."""
        value = {"constant_values": -1} if self.padding_mode == "constant" else {}
        return np.pad(np.arange(size), padding, mode=self.padding_mode, **value)


class RandomHorizontalFlip(Augmentation):
    """Swap left and right with probability p."""

    def __init__(self, p: float = 0.5):
        self.p = probability(p)

    def __call__(self, images: np.ndarray, draws: Draws) -> np.ndarray:
        """Flip some of the images (N, C, H, W)."""
        n, _, height, width = images.shape
        rows = np.broadcast_to(np.arange(height), (n, height))
        return backend.of(images).gather2d(images, *beside(images, rows, _flipped(width, self.p, draws)))


class RandomVerticalFlip(Augmentation):
    """Swap top and bottom with probability p."""

    def __init__(self, p: float = 0.5):
        self.p = probability(p)

    def __call__(self, images: np.ndarray, draws: Draws) -> np.ndarray:
        """Flip some of the images (N, C, H, W)."""
        n, _, height, width = images.shape
        columns = np.broadcast_to(np.arange(width), (n, width))
        return backend.of(images).gather2d(images, *beside(images, _flipped(height, self.p, draws), columns))


def _flipped(size: int, p: float, draws: Draws) -> np.ndarray:
    places = np.arange(size)
    return np.where(draws.uniform(0, 1) < p, places[::-1], places)


class RandomAffine(Augmentation):
    """Turn, scale and shift each image about its centre, with bilinear interpolation.

    Args:
        degrees: the angle, clockwise; a number d stands for (-d, d).
        translate: the largest shifts (across, down), as shares of width and height; None shifts nothing.
        scale: factors (least, most); None scales nothing.
        fill: value outside the image.

    Raises:
        ValueError: degrees that are no interval, shares outside 0…1, scales that are not positive.
    """

    def __init__(
        self,
        degrees: float | Sequence[float],
        translate: Sequence[float] | None = None,
        scale: Sequence[float] | None = None,
        *,
        fill: float = 0.0,
    ):
        self.degrees = interval(degrees, "degrees", around=0.0)
        if translate is not None and (np.shape(translate) != (2,) or not all(0 <= share <= 1 for share in translate)):
            raise ValueError(f"translate is {translate!r}, expected two shares from 0 to 1")
        self.translate = None if translate is None else tuple(translate)
        self.scale = None if scale is None else interval(scale, "scale")
        if self.scale is not None and self.scale[0] <= 0:
            raise ValueError(f"scale is {scale!r}, expected positive factors")
        self.fill = float(fill)

    def __call__(self, images: np.ndarray, draws: Draws) -> np.ndarray:
        """Move the images (N, C, H, W)."""
        matrices = self.matrices(images.shape, draws)
        return backend.of(images).affine2d(images, *beside(images, matrices), fill=self.fill)

    def matrices(self, shape: tuple[int, ...], draws: Draws) -> np.ndarray:
        """Draw the maps from places in the new images to places in the old, (N, 2, 3), in pixels from the centre.

        A pixel p of the old image goes to s R p + t with the factor s, the rotation R and the shift t; the way back is
        R⁻¹ (p' - t) / s.
        """
        low, high = zip(self.degrees, self.scale or (1.0, 1.0), (-1.0, 1.0), (-1.0, 1.0))
        degrees, scale, across, down = draws.uniform(np.array(low), np.array(high), 4).T
        angle = degrees * (math.pi / 180)
        back = np.stack([np.cos(angle), np.sin(angle), -np.sin(angle), np.cos(angle)], axis=1) / scale[:, None]
        back = back.reshape(-1, 2, 2)
        share_across, share_down = self.translate or (0.0, 0.0)
        shift = np.stack([across * share_across * shape[3], down * share_down * shape[2]], axis=1)[:, :, None]
        return np.concatenate([back, -back @ shift], axis=2)
