import numpy as np
import pytest

import nnk
from nnk import nn, random

pytestmark = pytest.mark.usefixtures("reference")


def network():
    return nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1),
        nn.Residual(nn.Sequential(nn.BatchNorm2d(2), nn.Dropout(0.5))),
        nn.Flatten(),
        nn.Linear(32, 3),
    ).double()


def test_the_first_nonfinite_layer_is_named(rng):
    model = network()
    x = rng.standard_normal((4, 1, 4, 4))
    assert nn.first_nonfinite(model, x) is None
    model[1].body[0].bias.data[1] = np.inf
    name, module = nn.first_nonfinite(model, x)
    assert name == "1.body.0"
    assert module is model[1].body[0]
    model[0].weight.data[0] = np.nan
    assert nn.first_nonfinite(model, x)[0] == "0"
    assert nn.first_nonfinite(nn.ReLU(), np.array([np.nan]))[0] == ""


def test_looking_leaves_no_trace(rng):
    model = network()
    x = rng.standard_normal((4, 1, 4, 4))
    model(x)
    state = {key: value.copy() for key, value in model.state_dict().items()}
    calls, waiting = random.get_state(), [len(m._pending) for m in model.modules()]
    nn.first_nonfinite(model, x)
    model.summary(x)
    assert random.get_state() == calls
    assert [len(m._pending) for m in model.modules()] == waiting
    for key, value in model.state_dict().items():
        np.testing.assert_array_equal(value, state[key], err_msg=key)
    assert model.training


def test_random_numbers_are_restored_after_an_error(rng):
    model = nn.Sequential(nn.Dropout(), nn.Linear(3, 2).double())
    before = random.get_state()
    with pytest.raises(ValueError, match="Linear"):
        nn.first_nonfinite(model, np.zeros((2, 4)))
    assert random.get_state() == before


def test_summary(rng):
    model = network()
    model[3].requires_grad_(False)
    text = model.summary(rng.standard_normal((4, 1, 4, 4)))
    lines = text.splitlines()
    assert lines[0].split() == ["module", "kind", "output", "shape", "parameters"]
    assert lines[2].split() == ["Sequential", "(4,", "3)"]
    assert lines[3].split() == ["0", "Conv2d", "(4,", "2,", "4,", "4)", "20"]
    assert lines[6].split() == ["0", "BatchNorm2d", "(4,", "2,", "4,", "4)", "4"]
    assert lines[-1] == "123 parameters, 24 of them trained"
    assert len({len(line) for line in lines[1:3]}) == 2


def test_summary_of_a_module_that_is_not_called():
    class Net(nn.Module):
        def __init__(self):
            self.unused = nn.Linear(1000, 3)

        def forward(self, x):
            return x

    text = Net().summary([1.0])
    assert "not called" in text
    assert "3,003 parameters" in text


def test_untouched_is_used_by_gradcheck(rng):
    model = network()
    before = model[1].body[0].running_mean.copy()
    assert nnk.testing.gradcheck(model, rng.standard_normal((4, 1, 4, 4)))
    np.testing.assert_array_equal(model[1].body[0].running_mean, before)
