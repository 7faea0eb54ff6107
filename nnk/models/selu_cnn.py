"""A network that keeps its activations normal without a normalisation layer."""

from __future__ import annotations

from nnk import nn

from .shape import channels_and_size


def selu_cnn(image_shape: tuple[int, int, int] = (1, 8, 8), num_classes: int = 10) -> nn.Sequential:
    """Build four convolutions and a layer of 64 units, each with SELU behind it, and no normalisation.

    Weights are drawn from N(0, 1 / fan_in) and biases are 0, for which SELU has mean 0 and variance 1 as its fixed
    point. Images are halved twice: their sides are at least 4.

    Source: G. Klambauer, T. Unterthiner, A. Mayr and S. Hochreiter, Self-normalizing neural networks, NeurIPS 2017.
    """
    channels, height, width = channels_and_size(image_shape, least=4)
    model = nn.Sequential(
        nn.Conv2d(channels, 16, 3, padding=1),
        nn.SELU(),
        nn.Conv2d(16, 16, 3, padding=1),
        nn.SELU(),
        nn.AvgPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.SELU(),
        nn.Conv2d(32, 32, 3, padding=1),
        nn.SELU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * (height // 4) * (width // 4), 64),
        nn.SELU(),
        nn.Linear(64, num_classes),
    )
    for parameter in model.parameters():
        if parameter.data.ndim > 1:
            nn.init.kaiming_normal_(parameter, nonlinearity="linear")
        else:
            nn.init.zeros_(parameter)
    return model
