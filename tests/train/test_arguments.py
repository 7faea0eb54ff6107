"""What is no trainer's argument is refused where it is given, by its name."""

import numpy as np
import pytest

from nnk import models, nn, optim, train
from nnk.optim import lr_scheduler


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("scheduler", 3),
        ("scheduler", object()),
        ("metrics", [train.accuracy]),
        ("metrics", {"accuracy": 0.5}),
        ("callbacks", train.EarlyStopping()),
        ("callbacks", 3),
    ],
)
def test_wrong_arguments_are_named(name, value):
    with pytest.raises(TypeError, match=name):
        train.Trainer(nn.Linear(2, 2), **{name: value})


def test_they_say_what_they_are():
    model = nn.Linear(2, 2)
    assert repr(train.Trainer(model)) == "Trainer(Linear, Adam, CrossEntropyLoss, batch_size=32, epoch=0)"
    assert repr(train.Ensemble([model, nn.Sequential(model)])) == "Ensemble(Linear, Sequential)"


def test_a_models_images_have_a_shape():
    with pytest.raises(TypeError, match=r"image_shape is 28, expected \(channels, height, width\)"):
        models.create("lenet", 28, 10)


def test_schedules_of_no_length_are_refused():
    optimizer = optim.SGD([nn.Parameter(np.ones(1, np.float32))], lr=0.1)
    with pytest.raises(ValueError, match="T_max is 0"):
        lr_scheduler.CosineAnnealingLR(optimizer, 0)
    for options in ({"step_size_up": 0}, {"step_size_up": -2}, {"step_size_up": 2, "step_size_down": -1}):
        with pytest.raises(ValueError, match="step_size_up"):
            lr_scheduler.CyclicLR(optimizer, 0.1, 1.0, **options)


@pytest.mark.parametrize("state", [{}, {"state": {}}, 3])
def test_an_optimiser_goes_on_only_from_a_state(state):
    optimizer = optim.SGD([nn.Parameter(np.ones(1, np.float32))], lr=0.1)
    with pytest.raises(TypeError, match="state_dict has no 'state' and 'param_groups'"):
        optimizer.load_state_dict(state)
