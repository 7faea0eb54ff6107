import inspect
from functools import partial

import numpy as np
import pytest

from nnk import nn, optim
from nnk.nn import arguments

NEEDED = {
    **{"num_groups": 1, "num_channels": 3, "num_features": 3, "normalized_shape": 3},
    **{"step_size": 1, "milestones": [1], "gamma": 0.5, "T_max": 2, "T_0": 2, "base_lr": 0.1, "max_lr": 0.2},
}
NUMBERS = [
    pytest.param(maker, parameter.name, id=f"{maker.__name__}.{parameter.name}")
    for room in (nn, optim, optim.lr_scheduler)
    for maker in (getattr(room, name) for name in room.__all__)
    if inspect.isclass(maker)
    for parameter in inspect.signature(maker).parameters.values()
    if parameter.annotation in ("float", "float | None") and not parameter.name.endswith("_momentum")
]


def made(maker, **options):
    names = inspect.signature(maker).parameters.keys()
    if "params" in names:
        return maker([nn.Parameter(np.ones(1))], **options)
    needed = {name: NEEDED[name] for name in names & NEEDED.keys()}
    if "optimizer" in names:
        needed["optimizer"] = optim.SGD([nn.Parameter(np.ones(1))], momentum=0.9)
    if "total_steps" in names:
        needed["total_steps"] = 10
    return maker(**{**needed, **options})


def test_the_walk_finds_numbers():
    assert len(NUMBERS) > 40
    some = {"Adam.lr", "Dropout.p", "LayerNorm.eps", "HuberLoss.delta", "MaxNorm.limit", "ExponentialLR.gamma"}
    assert some <= {param.id for param in NUMBERS}


@pytest.mark.parametrize(("maker", "name"), NUMBERS)
@pytest.mark.parametrize("wrong", ["1e-3", [0.1]])
def test_a_number_is_asked_for(maker, name, wrong):
    with pytest.raises(TypeError, match=rf"{name} is .*1.*, expected a number"):
        made(maker, **{name: wrong})


@pytest.mark.parametrize(("maker", "name"), NUMBERS)
def test_any_kind_of_number_will_do(maker, name):
    for one in (0.5, np.float32(0.5), np.array(0.5)):
        made(maker, **{name: one})


@pytest.mark.parametrize("wrong", [None, "0.9", 0.9, (0.9,), (0.9, 0.9, 0.9), (0.9, 1)])
def test_betas_are_two_numbers(wrong):
    with pytest.raises(ValueError, match=r"betas is .*, expected two numbers, 0 <= beta < 1"):
        optim.Adam([nn.Parameter(np.ones(1))], betas=wrong)


def test_an_int_is_asked_for():
    for maker, wrong in [
        (nn.Softmax, "dim"),
        (nn.LogSoftmax, "dim"),
        (partial(nn.AvgPool2d, 2), "divisor_override"),
        (partial(nn.Maxout, 2, pieces=2), "out_features"),
        (partial(nn.Maxout2d, 2, 2, 1, 2), "groups"),
    ]:
        with pytest.raises(TypeError, match=f"{wrong} is 1.5, expected an int"):
            maker(**{wrong: 1.5})


def test_number_returns_what_it_got():
    value = np.array(2)
    assert arguments.number(value, "x") is value
