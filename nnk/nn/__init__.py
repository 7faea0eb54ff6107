"""Modules, containers, losses and parameters, with the names and arguments of torch.nn."""

from nnk.nn import init, utils
from nnk.nn.activation import (
    ELU,
    GELU,
    SELU,
    Hardsigmoid,
    Hardswish,
    LeakyReLU,
    Mish,
    ReLU,
    ReLU6,
    Sigmoid,
    SiLU,
    Softplus,
    Tanh,
)
from nnk.nn.batchinstancenorm import BatchInstanceNorm2d
from nnk.nn.batchnorm import BatchNorm1d, BatchNorm2d
from nnk.nn.container import Concat, Flatten, Identity, ModuleList, Residual, Sequential
from nnk.nn.conv import Conv2d
from nnk.nn.dropout import Dropout, Dropout2d
from nnk.nn.fold import fold_batchnorm
from nnk.nn.inspect import first_nonfinite
from nnk.nn.instancenorm import InstanceNorm2d
from nnk.nn.linear import Linear
from nnk.nn.loss import (
    BCELoss,
    BCEWithLogitsLoss,
    BernoulliNLLLoss,
    CrossEntropyLoss,
    FocalLoss,
    GaussianNLLLoss,
    HuberLoss,
    KLDivLoss,
    L1Loss,
    LaplaceNLLLoss,
    MarginRankingLoss,
    MSELoss,
    NLLLoss,
    SmoothL1Loss,
)
from nnk.nn.maxout import Maxout, Maxout2d
from nnk.nn.module import Module
from nnk.nn.noise import GaussianNoise
from nnk.nn.normalization import GroupNorm, LayerNorm
from nnk.nn.parameter import Parameter
from nnk.nn.pending import watch
from nnk.nn.pooling import AdaptiveAvgPool2d, AdaptiveMaxPool2d, AvgPool2d, MaxPool2d
from nnk.nn.prelu import PReLU, Swish
from nnk.nn.softmax import LogSoftmax, Softmax
from nnk.nn.squeezeexcitation import SqueezeExcitation

__all__ = [
    "ELU",
    "GELU",
    "SELU",
    "AdaptiveAvgPool2d",
    "AdaptiveMaxPool2d",
    "AvgPool2d",
    "BCELoss",
    "BCEWithLogitsLoss",
    "BatchInstanceNorm2d",
    "BatchNorm1d",
    "BatchNorm2d",
    "BernoulliNLLLoss",
    "Concat",
    "Conv2d",
    "CrossEntropyLoss",
    "Dropout",
    "Dropout2d",
    "Flatten",
    "FocalLoss",
    "GaussianNLLLoss",
    "GaussianNoise",
    "GroupNorm",
    "Hardsigmoid",
    "Hardswish",
    "HuberLoss",
    "Identity",
    "InstanceNorm2d",
    "KLDivLoss",
    "L1Loss",
    "LaplaceNLLLoss",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LogSoftmax",
    "MSELoss",
    "MarginRankingLoss",
    "MaxPool2d",
    "Maxout",
    "Maxout2d",
    "Mish",
    "Module",
    "ModuleList",
    "NLLLoss",
    "PReLU",
    "Parameter",
    "ReLU",
    "ReLU6",
    "Residual",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "SmoothL1Loss",
    "Softmax",
    "Softplus",
    "SqueezeExcitation",
    "Swish",
    "Tanh",
    "first_nonfinite",
    "fold_batchnorm",
    "init",
    "utils",
    "watch",
]
