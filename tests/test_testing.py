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


class Product(nn.Module):
    """x * y with a gradient to both, the second spoilt on request."""

    def __init__(self, spoil=1.0):
        self.spoil = spoil

    def forward(self, x, y):
        self.save(x, y)
        return x * y

    def backward(self, dy):
        x, y = self.saved()
        return dy * y, self.spoil * dy * x


def test_several_inputs_are_differentiated():
    assert gradcheck(Product(), X, X + 1, wrt=(0, 1))
    with pytest.raises(AssertionError, match=r"Product.backward is wrong:\n  input 2: along") as caught:
        gradcheck(Product(1.001), X, X + 1, wrt=(0, 1))
    assert "input:" not in str(caught.value)


def test_gradients_of_inputs_that_are_not_named():
    with pytest.raises(AssertionError, match=r"Product.backward returned 2 gradients, but wrt names 1 inputs"):
        gradcheck(Product(), X, X)


class Quantile(nn.Module):
    """A user's loss: 0.9 d where d = target - output > 0, else -0.1 d, on average."""

    def __init__(self, slope=0.9):
        self.slope = slope

    def forward(self, output, target):
        d = target - output
        self.save(d)
        return np.mean(np.maximum(0.9 * d, -0.1 * d))

    def backward(self, dy=None):
        d = self.saved()
        return dy * np.where(d > 0, -self.slope, 0.1) / d.size


def test_a_loss_of_the_users():
    target = np.random.default_rng(1).standard_normal((4, 3))
    assert gradcheck(Quantile(), X, target)
    with pytest.raises(AssertionError, match=r"Quantile.backward is wrong"):
        gradcheck(Quantile(0.8), X, target)


def test_the_module_stays_as_it_is():
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    before = {key: value.copy() for key, value in model.state_dict().items()}
    x = X.copy()
    assert gradcheck(model, x)
    np.testing.assert_array_equal(x, X)
    for key, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[key])
    assert model[0].weight.grad is None
