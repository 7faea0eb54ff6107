"""A small network for small images."""

from __future__ import annotations

from nnk import nn

from .shape import channels_and_size


def digits_cnn(image_shape: tuple[int, int, int] = (1, 8, 8), num_classes: int = 10) -> nn.Sequential:
    """Build a convolution, a residual block, another convolution, each followed by what makes it train well.

    Images are halved once: their sides are at least 2.
    """
    channels, height, width = channels_and_size(image_shape, least=2)
    return nn.Sequential(
        nn.Conv2d(channels, 32, 3, padding=1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Residual(
            nn.Sequential(
                nn.Conv2d(32, 32, 3, padding=1, bias=False),
                nn.BatchNorm2d(32),
                nn.ReLU(),
                nn.Conv2d(32, 32, 3, padding=1, bias=False),
                nn.BatchNorm2d(32),
            )
        ),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64 * (height // 2) * (width // 2), num_classes),
    )
