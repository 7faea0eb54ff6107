"""Residual networks, for small images and for those of ImageNet."""

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


def resnet50(image_shape: tuple[int, int, int] = (3, 224, 224), num_classes: int = 1000) -> nn.Sequential:
    """Build a ResNet-50: four stages of 3, 4, 6 and 3 bottlenecks with 256, 512, 1024 and 2048 channels.

    It begins with a 7×7 convolution of stride 2 and a max pooling of stride 2. Where a stage begins at half the size,
    the stride is that of the 3×3 convolution, as in PyTorch's model, not of the 1×1 before it as in the paper.

    Source: K. He, X. Zhang, S. Ren and J. Sun, Deep residual learning for image recognition, CVPR 2016, table 1.
    """
    colours, _, _ = channels_and_size(image_shape)
    layers: list[nn.Module] = [*_conv_bn(colours, 64, 7, stride=2), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1)]
    channels = 64
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(blocks):
            layers += [_bottleneck(channels, width, 2 if block == 0 and width > 64 else 1), nn.ReLU()]
            channels = 4 * width
    return _with_classifier(layers, channels, num_classes)


def _resnet(image_shape: tuple[int, int, int], num_classes: int, stages: Sequence[int], blocks: int) -> nn.Sequential:
    colours, _, _ = channels_and_size(image_shape)
    channels = stages[0]
    layers: list[nn.Module] = [*_conv_bn(colours, channels, 3), nn.ReLU()]
    for stage in stages:
        for _ in range(blocks):
            layers += [_block(channels, stage), nn.ReLU()]
            channels = stage
    return _with_classifier(layers, channels, num_classes)


def _with_classifier(layers: Sequence[nn.Module], channels: int, num_classes: int) -> nn.Sequential:
    """The whole network, its weights drawn as He et al. do for ReLU networks."""
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return model


def _block(before: int, after: int) -> nn.Residual:
    stride = 1 if before == after else 2
    body = [*_conv_bn(before, after, 3, stride), nn.ReLU(), *_conv_bn(after, after, 3)]
    return _residual(before, after, stride, body)


def _bottleneck(before: int, width: int, stride: int) -> nn.Residual:
    body = [*_conv_bn(before, width, 1), nn.ReLU(), *_conv_bn(width, width, 3, stride), nn.ReLU()]
    return _residual(before, 4 * width, stride, [*body, *_conv_bn(width, 4 * width, 1)])


def _residual(before: int, after: int, stride: int, body: Sequence[nn.Module]) -> nn.Residual:
    shortcut = None if before == after and stride == 1 else nn.Sequential(*_conv_bn(before, after, 1, stride))
    return nn.Residual(nn.Sequential(*body), shortcut)


def _conv_bn(before: int, after: int, size: int, stride: int = 1) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    return nn.Conv2d(before, after, size, stride, padding=size // 2, bias=False), nn.BatchNorm2d(after)
