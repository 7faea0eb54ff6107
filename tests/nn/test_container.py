import numpy as np
import pytest

import nnk
from nnk import nn

pytestmark = pytest.mark.usefixtures("reference")


def names(module):
    return [name for name, _ in module.named_children()]


def test_sequential_like_a_list():
    a, b, c, d = nn.ReLU(), nn.Tanh(), nn.Sigmoid(), nn.Identity()
    model = nn.Sequential(a, b)
    assert model.append(c) is model
    assert list(model) == [a, b, c]
    model.insert(1, d)
    assert list(model) == [a, d, b, c]
    assert names(model) == ["0", "1", "2", "3"]
    del model[1]
    assert list(model) == [a, b, c]
    assert names(model) == ["0", "1", "2"]
    model[-1] = d
    assert model[2] is d
    assert list(model[1:]) == [b, d]
    assert isinstance(model[1:], nn.Sequential)
    assert names(model[1:]) == ["1", "2"]
    assert len(model.extend([c, c])) == 5
    assert list(model) == [a, b, d, c, c]
    with pytest.raises(IndexError):
        model[5]


def test_sequential_of_names():
    model = nn.Sequential({"conv": nn.Conv2d(1, 2, 3), "act": nn.ReLU()})
    assert names(model) == ["conv", "act"]
    assert isinstance(model.act, nn.ReLU)
    model.act = nn.Tanh()
    assert names(model.append(nn.Identity())) == ["conv", "act", "2"]
    assert isinstance(model[1], nn.Tanh)


def test_what_is_no_module():
    with pytest.raises(TypeError, match="item 1 is a function, expected a Module"):
        nn.Sequential(nn.ReLU(), lambda x: x)
    with pytest.raises(TypeError, match=r"item 0 is the class ReLU, expected a Module: call it, as in ReLU\(\)"):
        nn.ModuleList([nn.ReLU])
    with pytest.raises(TypeError, match="body is a NoneType"):
        nn.Residual(None)
    with pytest.raises(TypeError, match="shortcut is a int"):
        nn.Residual(nn.ReLU(), 3)
    with pytest.raises(TypeError, match="branch 1 is the class Tanh"):
        nn.Concat(nn.ReLU(), nn.Tanh)


def test_empty_sequential_passes(rng):
    model = nn.Sequential()
    x = rng.standard_normal((2, 3))
    assert model(x) is x
    assert model.backward(x) is x


def test_module_list(rng):
    class Net(nn.Module):
        def __init__(self):
            self.layers = nn.ModuleList(nn.Linear(3, 3) for _ in range(3))

        def forward(self, x):
            for layer in self.layers:
                x = layer(x)
            return x

        def backward(self, dy):
            for layer in reversed(list(self.layers)):
                dy = layer.backward(dy)
            return dy

    net = Net()
    assert list(net.state_dict())[:2] == ["layers.0.weight", "layers.0.bias"]
    assert len(net.layers) == 3
    assert nnk.testing.gradcheck(net, rng.standard_normal((2, 3)))
    with pytest.raises(NotImplementedError, match="ModuleList has no forward"):
        net.layers(1)


def test_reverse_order():
    order = []

    class Step(nn.Module):
        def __init__(self, name):
            self.name = name

        def forward(self, x):
            order.append(self.name)
            return x

        def backward(self, dy):
            order.append(self.name)
            return dy

    model = nn.Sequential(
        Step("a"), nn.Residual(Step("body"), Step("shortcut")), nn.Concat(Step("left"), Step("right"))
    )
    y = model(np.ones((1, 2, 1, 1)))
    there = list(order)
    order.clear()
    model.backward(y)
    assert there == ["a", "body", "shortcut", "left", "right"]
    assert order == there[::-1]


@pytest.mark.parametrize("shortcut", [None, nn.Conv2d(2, 2, 1)])
def test_residual(rng, shortcut):
    block = nn.Residual(nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), nn.ReLU()), shortcut).double()
    x = rng.standard_normal((2, 2, 4, 5))
    expected = block.body(x) + (x if shortcut is None else block.shortcut(x))
    np.testing.assert_allclose(block(x), expected)
    assert nnk.testing.gradcheck(block, x)
    assert [key.split(".")[0] for key in block.state_dict()] == ["body"] * 2 + ["shortcut"] * (2 if shortcut else 0)
    block(x)
    assert block.backward(np.ones_like(expected), input_grad=False) is None


def test_residual_of_different_shapes():
    with pytest.raises(ValueError, match=r"body\(x\) has shape \(1, 3, 4, 4\), the input \(1, 2, 4, 4\)"):
        nn.Residual(nn.Conv2d(2, 3, 1).double())(np.zeros((1, 2, 4, 4)))


def test_concat(rng):
    block = nn.Concat(nn.Conv2d(2, 3, 1), nn.MaxPool2d(3, 1, 1), nn.Conv2d(2, 1, 3, padding=1)).double()
    x = rng.standard_normal((2, 2, 4, 5))
    y = block(x)
    assert y.shape == (2, 6, 4, 5)
    np.testing.assert_array_equal(y[:, 3:5], block(x)[:, 3:5])
    assert list(block.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert nnk.testing.gradcheck(block, x)
    assert nnk.testing.gradcheck(nn.Concat(nn.Tanh(), nn.ReLU(), dim=0), x[0])
    assert block.backward(np.ones_like(y), input_grad=False) is None


def test_dense_block(rng):
    def layer(channels):
        return nn.Sequential(nn.GroupNorm(1, channels), nn.Tanh(), nn.Conv2d(channels, 2, 3, padding=1))

    block = nn.Sequential(*(nn.Concat(nn.Identity(), layer(channels)) for channels in (3, 5, 7))).double()
    x = rng.standard_normal((2, 3, 4, 5))
    y = block(x)
    assert y.shape == (2, 9, 4, 5)
    np.testing.assert_array_equal(y[:, :3], x)
    assert nnk.testing.gradcheck(block, x)


def test_inception_block(rng):
    block = nn.Concat(
        nn.Conv2d(3, 2, 1),
        nn.Sequential(nn.Conv2d(3, 2, 1), nn.Tanh(), nn.Conv2d(2, 3, 3, padding=1)),
        nn.Sequential(nn.Conv2d(3, 1, 1), nn.Tanh(), nn.Conv2d(1, 2, 5, padding=2)),
        nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.Conv2d(3, 1, 1)),
    ).double()
    x = rng.standard_normal((2, 3, 5, 4))
    y = block(x)
    assert y.shape == (2, 8, 5, 4)
    np.testing.assert_array_equal(y[:, 2:5], getattr(block, "1")(x))
    assert nnk.testing.gradcheck(block, x)


def test_concat_of_nothing_or_different_sizes():
    with pytest.raises(ValueError, match="no branches"):
        nn.Concat()
    with pytest.raises(ValueError, match="expected to differ in axis 1 alone"):
        nn.Concat(nn.Identity(), nn.MaxPool2d(2))(np.zeros((1, 2, 4, 4)))


def test_identity(rng):
    identity = nn.Identity(3, unused=True)
    x = rng.standard_normal((2, 3))
    assert identity(x) is x
    assert identity.backward(x) is x


@pytest.mark.parametrize(
    ("args", "shape"), [((), (2, 3, 4, 5)), ((0,), (2, 3)), ((1, 2), (2, 3, 4, 5)), ((-2,), (2, 3, 4)), ((0,), ())]
)
def test_flatten_as_in_torch(same_as_torch, rng, args, shape):
    same_as_torch("Flatten", args, {}, np.asarray(rng.standard_normal(shape)))


def test_flatten_is_in_the_order_of_channels_rows_columns(rng):
    x = rng.standard_normal((2, 4, 5, 3)).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(nn.Flatten()(x), np.ascontiguousarray(x).reshape(2, 60))
    np.testing.assert_array_equal(nn.Flatten()(x[:0]), np.zeros((0, 60)))


@pytest.mark.parametrize(("args", "shape"), [((), (3,)), ((2, 1), (1, 2, 3)), ((0, 4), (1, 2)), ((-4,), (1, 2))])
def test_flatten_without_these_axes(args, shape):
    with pytest.raises(ValueError, match="Flatten: the input has shape"):
        nn.Flatten(*args)(np.zeros(shape))
