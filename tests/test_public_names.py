"""What users import is where it is said to be, and says what it does."""

import importlib
import inspect
import re

import pytest

NAMES = {
    "nnk": "manual_seed save load no_grad use_backend set_num_threads get_num_threads set_precision empty_cache",
    "nnk.nn": """
        Module Parameter ModuleList Conv2d Linear Flatten Identity Sequential Residual Concat SqueezeExcitation
        MaxPool2d AvgPool2d AdaptiveAvgPool2d AdaptiveMaxPool2d
        BatchNorm1d BatchNorm2d LayerNorm InstanceNorm2d GroupNorm BatchInstanceNorm2d
        ReLU ReLU6 LeakyReLU PReLU ELU SELU GELU SiLU Swish Mish Hardswish Hardsigmoid Sigmoid Tanh Softplus Softmax
        LogSoftmax Maxout Maxout2d
        Dropout Dropout2d GaussianNoise
        CrossEntropyLoss NLLLoss MSELoss L1Loss SmoothL1Loss HuberLoss FocalLoss MarginRankingLoss GaussianNLLLoss
        LaplaceNLLLoss BernoulliNLLLoss BCELoss BCEWithLogitsLoss KLDivLoss
        fold_batchnorm init utils
    """,
    "nnk.nn.init": """
        calculate_gain constant_ dirac_ eye_ kaiming_normal_ kaiming_uniform_ normal_ ones_ orthogonal_ sparse_
        trunc_normal_ uniform_ xavier_normal_ xavier_uniform_ zeros_
    """,
    "nnk.nn.utils": "clip_grad_norm_ clip_grad_value_",
    "nnk.optim": "SGD Adagrad Adadelta RMSprop Adam AdamW lr_scheduler",
    "nnk.optim.lr_scheduler": """
        StepLR MultiStepLR ExponentialLR LinearLR ConstantLR CosineAnnealingLR CosineAnnealingWarmRestarts CyclicLR
        OneCycleLR ReduceLROnPlateau LambdaLR PolynomialLR ChainedScheduler SequentialLR
    """,
    "nnk.data": "DataLoader",
    "nnk.models": "create names",
    "nnk.train": "Trainer recompute_bn activation_stats",
    "nnk.testing": "gradcheck",
    "nnk.cuda": "is_available synchronize",
}
EACH = [(module, name) for module, names in NAMES.items() for name in names.split()]
PUBLIC = ("nnk.nn", "nnk.nn.init", "nnk.nn.utils", "nnk.optim", "nnk.optim.lr_scheduler", "nnk.data", "nnk.train")


def documented(value):
    """Whether it has a docstring of its own: one that a class inherits does not count."""
    return bool(vars(value).get("__doc__") if inspect.isclass(value) else value.__doc__)


@pytest.mark.parametrize(("module", "name"), EACH, ids=[f"{module}.{name}" for module, name in EACH])
def test_a_name_is_there_and_documented(module, name):
    assert documented(getattr(importlib.import_module(module), name))


@pytest.mark.parametrize("module", PUBLIC)
def test_what_a_module_offers_is_documented(module):
    module = importlib.import_module(module)
    assert [name for name in module.__all__ if not documented(getattr(module, name))] == []


TOPOLOGY = {"Module", "Parameter", "ModuleList", "Sequential", "Identity", "Flatten"}  # no publication behind them
LAYERS = [name for name in NAMES["nnk.nn"].split() if name[0].isupper() and name not in TOPOLOGY]


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_says_its_shapes_errors_and_source(name):
    docstring = getattr(importlib.import_module("nnk.nn"), name).__doc__
    assert re.search(r"[Ss]hape|\((N|C|\*|height), ", docstring)
    assert re.search(r"Raises|[Ee]rrors", docstring)
    assert re.search(r"[Ss]ource", docstring)


def test_an_inherited_docstring_is_none():
    class Bare(importlib.import_module("nnk.nn").ReLU):
        pass

    assert not documented(Bare)
