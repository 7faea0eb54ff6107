"""Residual networks for small images."""

from __future__ import annotations

from collections.abc import Sequence

from nnk import nn

from .shape import channels_and_size


def resnet20(image_shape: tuple[int, int, int] = (3, 32, 32), num_classes: int = 10) -> nn.Sequential:
    """Build the ResNet-20 for CIFAR: three stages of three residual blocks with 16, 32 and 64 channels.

    Where a stage begins at half the size, the shortcut is a 1×1 convolution of stride 2 with batch norm
    (option B of the paper). Weights are drawn as He et al. do for ReLU networks.

    Source: K. He, X. Zhang, S. Ren and J. Sun, Deep residual learning for image recognition, CVPR 2016,
    section 4.2.
    """
    return _resnet(image_shape, num_classes, stages=(16, 32, 64), blocks=3)


def resnet18(image_shape: tuple[int, int, int] = (3, 32, 32), num_classes: int = 10) -> nn.Sequential:
    """Build a ResNet-18 for small images: four stages of two residual blocks with 64, 128, 256 and 512 channels.

    Like the paper's network for ImageNet, but for its beginning, which would leave nothing of a small image: here it
    is that of `resnet20`, one 3×3 convolution of stride 1 and no pooling.

    Source: K. He, X. Zhang, S. Ren and J. Sun, Deep residual learning for image recognition, CVPR 2016, table 1.
    """
    return _resnet(image_shape, num_classes, stages=(64, 128, 256, 512), blocks=2)


def _resnet(image_shape: tuple[int, int, int], num_classes: int, stages: Sequence[int], blocks: int) -> nn.Sequential:
    colours, _, _ = channels_and_size(image_shape)
    channels = stages[0]
    layers: list[nn.Module] = [*_conv_bn(colours, channels), nn.ReLU()]
    for stage in stages:
        for _ in range(blocks):
            layers += [_block(channels, stage), nn.ReLU()]
            channels = stage
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return model


def _block(before: int, after: int) -> nn.Residual:
    stride = 1 if before == after else 2
    body = nn.Sequential(*_conv_bn(before, after, stride), nn.ReLU(), *_conv_bn(after, after))
    if stride == 1:
        return nn.Residual(body)
    return nn.Residual(body, nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after)))


def _conv_bn(before: int, after: int, stride: int = 1) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    return nn.Conv2d(before, after, 3, stride, padding=1, bias=False), nn.BatchNorm2d(after)
