"""LeNet-5."""

from __future__ import annotations

from nnk import nn

from .shape import channels_and_size


def lenet(image_shape: tuple[int, int, int] = (1, 28, 28), num_classes: int = 10) -> nn.Sequential:
    """Build LeNet-5 with full connections between its maps, padded so that small images pass.

    Two 5×5 convolutions with tanh and average pooling, then layers of 120 and 84 units. Images are halved twice: their
    sides are at least 4.

    Source: Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, Gradient-based learning applied to document
    recognition, Proceedings of the IEEE 86, 1998.
    """
    channels, height, width = channels_and_size(image_shape, least=4)
    return nn.Sequential(
        nn.Conv2d(channels, 6, 5, padding=2),
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Conv2d(6, 16, 5, padding=2),
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * (height // 4) * (width // 4), 120),
        nn.Tanh(),
        nn.Linear(120, 84),
        nn.Tanh(),
        nn.Linear(84, num_classes),
    )
