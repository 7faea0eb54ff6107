"""Models by name, as the command line asks for them."""

from __future__ import annotations

from nnk import nn

from .digits_cnn import digits_cnn
from .lenet import lenet
from .maxout_cnn import maxout_cnn
from .mobilenet import mobilenet
from .resnet import resnet18, resnet20, resnet50
from .selu_cnn import selu_cnn
from .vgg import vgg8

MODELS = {
    model.__name__: model
    for model in (digits_cnn, lenet, maxout_cnn, mobilenet, resnet18, resnet20, resnet50, selu_cnn, vgg8)
}


def names() -> list[str]:
    """Names that `create` knows."""
    return sorted(MODELS)


def create(name: str, image_shape: tuple[int, int, int], num_classes: int) -> nn.Sequential:
    """Build the model called ``name`` for images (C, H, W) of ``num_classes`` classes.

    Raises:
        ValueError: an unknown name, or images that are too small for the model.
    """
    if name not in MODELS:
        raise ValueError(f"unknown model {name!r}, known are: {', '.join(names())}")
    return MODELS[name](image_shape, num_classes)
