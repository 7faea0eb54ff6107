import numpy as np
import pytest

from nnk import nn
from nnk.testing import gradcheck


class Wrong(nn.Module):
    """y = x * w + max(x, 0), whose backward is spoilt on request."""

    def __init__(self, spoil_input=1.0, spoil_weight=1.0):
        self.weight = nn.Parameter(np.array([0.7, -1.2, 2.0], np.float32))
        self.other = nn.Linear(3, 3)
        self.spoil = spoil_input, spoil_weight

    def forward(self, x):
        self.save(x)
        return self.other(x) + x * self.weight.data + np.maximum(x, 0)

    def backward(self, dy):
        x = self.saved()
        self.weight.accumulate(self.spoil[1] * (dy * x).sum(axis=0))
        return self.spoil[0] * (self.other.backward(dy) + dy * self.weight.data + dy * (x > 0))


X = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)


def test_right_gradients_pass():
    assert gradcheck(Wrong(), X) is True


def test_kinks_are_passed_over():
    assert gradcheck(nn.ReLU(), np.zeros((50, 40)))
    assert gradcheck(nn.MaxPool2d(2), np.ones((2, 3, 6, 6)))


def test_a_wrong_gradient_to_the_input_is_named():
    with pytest.raises(AssertionError, match=r"Wrong.backward is wrong:\n  input: along") as caught:
        gradcheck(Wrong(spoil_input=1.0001), X)
    assert "weight" not in str(caught.value)


def test_a_wrong_gradient_to_a_parameter_is_named():
    with pytest.raises(AssertionError, match=r"\n  weight: along a direction backward gives .*, differences") as caught:
        gradcheck(Wrong(spoil_weight=0.999), X)
    assert "input" not in str(caught.value)
    assert "other" not in str(caught.value)


def test_a_missing_gradient_is_found():
    class Forgets(nn.Linear):
        def backward(self, dy):
            dx = super().backward(dy)
            self.bias.grad = None
            return dx

    with pytest.raises(AssertionError, match="bias: along a direction backward gives 0,"):
        gradcheck(Forgets(3, 2), X)


def test_a_gradient_of_another_shape_is_found():
    class Reshapes(nn.ReLU):
        def backward(self, dy):
            return super().backward(dy)[None]

    with pytest.raises(AssertionError, match=r"input: backward gives shape \(1, 4, 3\), expected \(4, 3\)"):
        gradcheck(Reshapes(), X)


def test_the_module_stays_as_it_is():
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    before = {key: value.copy() for key, value in model.state_dict().items()}
    x = X.copy()
    assert gradcheck(model, x)
    np.testing.assert_array_equal(x, X)
    for key, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[key])
    assert model[0].weight.grad is None
