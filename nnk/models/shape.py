"""The shape of images that a model is built for."""

from __future__ import annotations

from collections.abc import Sequence


def channels_and_size(image_shape: Sequence[int], least: int = 1) -> tuple[int, int, int]:
    """Return (C, H, W); raise TypeError or ValueError unless it is that, with sides of at least ``least``."""
    if not isinstance(image_shape, (tuple, list)):
        raise TypeError(f"image_shape is {image_shape!r}, expected (channels, height, width)")
    if len(image_shape) != 3 or min(image_shape) < 1 or min(image_shape[1:]) < least:
        raise ValueError(
            f"image_shape is {tuple(image_shape)}, expected (channels, height, width) with sides of at least {least}"
        )
    channels, height, width = image_shape
    return channels, height, width
