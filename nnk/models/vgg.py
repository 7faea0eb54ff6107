"""A plain stack of 3×3 convolutions."""

from __future__ import annotations

from nnk import nn

from .shape import channels_and_size


def vgg8(image_shape: tuple[int, int, int] = (3, 32, 32), num_classes: int = 10) -> nn.Sequential:
    """Build a network in the manner of VGG: pairs of 3×3 convolutions with 64, 128 and 256 channels.

    Each convolution is followed by batch norm and ReLU, each pair by max pooling; the classifier sees the
    average of each channel. Images are halved three times: their sides are at least 8.

    Source: K. Simonyan and A. Zisserman, Very deep convolutional networks for large-scale image recognition,
    ICLR 2015; batch norm after Ioffe and Szegedy, ICML 2015.
    """
    channels, _, _ = channels_and_size(image_shape, least=8)
    layers: list[nn.Module] = []
    for width in (64, 128, 256):
        for before in (channels, width):
            layers += [nn.Conv2d(before, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        layers.append(nn.MaxPool2d(2))
        channels = width
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 256), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(256, num_classes))
