"""Depthwise separable convolutions."""

from __future__ import annotations

from nnk import nn

from .shape import channels_and_size

# Channels and stride of each block.
BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))


def mobilenet(image_shape: tuple[int, int, int] = (3, 32, 32), num_classes: int = 10) -> nn.Sequential:
    """Build MobileNet for small images: thirteen blocks of a depthwise 3×3 and a 1×1 convolution.

    Each convolution is followed by batch norm and ReLU. The first one has stride 1, where the paper's for ImageNet has
    2. Weights are drawn as He et al. do for ReLU networks.

    Source: A. Howard et al., MobileNets: efficient convolutional neural networks for mobile vision applications, 2017,
    arXiv:1704.04861, table 1.
    """
    channels, _, _ = channels_and_size(image_shape)
    layers = _conv_bn_relu(channels, 32, kernel_size=3)
    channels = 32
    for width, stride in BLOCKS:
        layers += _conv_bn_relu(channels, channels, kernel_size=3, stride=stride, groups=channels)
        layers += _conv_bn_relu(channels, width, kernel_size=1)
        channels = width
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    return model


def _conv_bn_relu(
    before: int, after: int, kernel_size: int, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    padding = kernel_size // 2
    conv = nn.Conv2d(before, after, kernel_size, stride, padding, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(after), nn.ReLU()]
