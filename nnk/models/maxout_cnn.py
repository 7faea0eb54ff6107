"""A network whose only nonlinearity is the maximum of several linear pieces."""

from __future__ import annotations

from nnk import nn

from .shape import channels_and_size


def maxout_cnn(image_shape: tuple[int, int, int] = (1, 8, 8), num_classes: int = 10) -> nn.Sequential:
    """Build two maxout convolutions and a maxout layer of two pieces a unit, with dropout before the classes.

    Images are halved twice: their sides are at least 4.

    Source: I. Goodfellow, D. Warde-Farley, M. Mirza, A. Courville and Y. Bengio, Maxout networks, ICML 2013.
    """
    channels, height, width = channels_and_size(image_shape, least=4)
    return nn.Sequential(
        nn.Maxout2d(channels, 16, 3, 2, padding=1),
        nn.MaxPool2d(2),
        nn.Maxout2d(16, 32, 3, 2, padding=1),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Maxout(32 * (height // 4) * (width // 4), 64, 2),
        nn.Dropout(0.2),
        nn.Linear(64, num_classes),
    )
