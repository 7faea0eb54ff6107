"""LeNet-5."""

from __future__ import annotations

from nnk import nn

from .shape import channels_and_size

ACTIVATIONS = {"tanh": nn.Tanh, "sigmoid": nn.Sigmoid}


def lenet(
    image_shape: tuple[int, int, int] = (1, 28, 28), num_classes: int = 10, *, activation: str = "tanh"
) -> nn.Sequential:
    """Build LeNet-5 with full connections between its maps, padded so that small images pass.

    Two 5×5 convolutions, each with a squashing function and average pooling behind it, then layers of 120 and 84 units.
    Images are halved twice: their sides are at least 4.

    Args:
        image_shape: (C, H, W).
        num_classes: logits per image.
        activation: "tanh", or "sigmoid" for the logistic function. That one's slope at 0 is 1/4: its weights are
            Xavier's times 4, with which a signal comes through five layers, and biases are 0.

    Raises:
        ValueError: another activation, or images that are too small.

    Source: Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, Gradient-based learning applied to document
    recognition, Proceedings of the IEEE 86, 1998. Weights: X. Glorot and Y. Bengio, Understanding the difficulty of
    training deep feedforward neural networks, AISTATS 2010, eq. 16.
    """
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation is {activation!r}, expected 'tanh' or 'sigmoid'")
    squash = ACTIVATIONS[activation]
    channels, height, width = channels_and_size(image_shape, least=4)
    model = nn.Sequential(
        nn.Conv2d(channels, 6, 5, padding=2),
        squash(),
        nn.AvgPool2d(2),
        nn.Conv2d(6, 16, 5, padding=2),
        squash(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * (height // 4) * (width // 4), 120),
        squash(),
        nn.Linear(120, 84),
        squash(),
        nn.Linear(84, num_classes),
    )
    if activation == "sigmoid":
        for parameter in model.parameters():
            if parameter.data.ndim > 1:
                nn.init.xavier_uniform_(parameter, gain=4)
            else:
                nn.init.zeros_(parameter)
    return model
