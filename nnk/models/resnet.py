"""Residual networks for small images."""

from __future__ import annotations

from nnk import nn

from .shape import channels_and_size


def resnet20(image_shape: tuple[int, int, int] = (3, 32, 32), num_classes: int = 10) -> nn.Sequential:
    """Build the ResNet-20 for CIFAR: three stages of three residual blocks with 16, 32 and 64 channels.

    Where a stage begins at half the size, the shortcut is a 1×1 convolution of stride 2 with batch norm
    (option B of the paper). Weights are drawn as He et al. do for ReLU networks.

    Source: K. He, X. Zhang, S. Ren and J. Sun, Deep residual learning for image recognition, CVPR 2016,
    section 4.2.
    """
    colours, _, _ = channels_and_size(image_shape)
    layers: list[nn.Module] = [*_conv_bn(colours, 16), nn.ReLU()]
    channels = 16
    for stage in (16, 32, 64):
        for _ in range(3):
            layers += [_block(channels, stage), nn.ReLU()]
            channels = stage
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, num_classes))
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
