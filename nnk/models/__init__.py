"""Convolutional networks, ready to train.

Each is a function ``model(image_shape=(C, H, W), num_classes=…)`` that returns a fresh `nnk.nn.Sequential` whose
output is logits (N, num_classes); `create` finds it by name.
"""

from .digits_cnn import digits_cnn
from .lenet import lenet
from .maxout_cnn import maxout_cnn
from .mobilenet import mobilenet
from .registry import create, names
from .resnet import resnet18, resnet20, resnet50
from .selu_cnn import selu_cnn
from .vgg import vgg8

__all__ = [
    "create",
    "digits_cnn",
    "lenet",
    "maxout_cnn",
    "mobilenet",
    "names",
    "resnet18",
    "resnet20",
    "resnet50",
    "selu_cnn",
    "vgg8",
]
