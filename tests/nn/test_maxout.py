import numpy as np
import pytest

import nnk
from nnk import nn

MODULES = [
    (nn.Maxout(5, 4, 3), (6, 5)),
    (nn.Maxout(5, 4, 3, bias=False), (5,)),
    (nn.Maxout(5, 4, 1), (2, 3, 5)),
    (nn.Maxout(5, 2, 300), (4, 5)),
    (nn.Maxout2d(3, 4, 3, 2), (2, 3, 5, 6)),
    (nn.Maxout2d(3, 4, (1, 3), 5, stride=2, padding=(0, 1), bias=False), (3, 5, 6)),
    (nn.Maxout2d(6, 4, 3, 2, groups=2, padding="same"), (2, 6, 5, 5)),
]

each_module = pytest.mark.parametrize(("module", "shape"), MODULES, ids=lambda value: repr(value).split("\n")[0])


@each_module
def test_gradcheck(rng, module, shape):
    assert nnk.testing.gradcheck(module, rng.standard_normal(shape))


def test_it_is_the_largest_of_linear_layers(reference, rng):
    module, x = nn.Maxout(5, 4, 3).double(), rng.standard_normal((2, 6, 5))
    weight, bias = module.linear.weight.data.reshape(3, 4, 5), module.linear.bias.data.reshape(3, 4)
    pieces = [x @ weight[j].T + bias[j] for j in range(3)]
    np.testing.assert_allclose(module(x), np.max(pieces, axis=0), rtol=1e-12)


@pytest.mark.parametrize("groups", [1, 2])
def test_it_is_the_largest_of_convolutions(reference, rng, groups):
    module, x = nn.Maxout2d(6, 4, 3, 5, padding=1, groups=groups).double(), rng.standard_normal((2, 6, 7, 5))
    conv = nn.Conv2d(6, 4, 3, padding=1, groups=groups).double()
    # Within each group of channels, piece by piece.
    weights = module.conv.weight.data.reshape(groups, 5, 4 // groups, 6 // groups, 3, 3)
    biases = module.conv.bias.data.reshape(groups, 5, 4 // groups)
    pieces = []
    for j in range(5):
        conv.weight.data = weights[:, j].reshape(4, 6 // groups, 3, 3)
        conv.bias.data = biases[:, j].reshape(4)
        pieces.append(conv(x))
    np.testing.assert_allclose(module(x), np.max(pieces, axis=0), rtol=1e-12, atol=1e-12)


def test_two_pieces_can_be_the_absolute_value(rng):
    module = nn.Maxout(1, 1, 2)
    module.linear.weight.data[...] = [[1], [-1]]
    module.linear.bias.data[...] = 0
    x = np.float32([[-2], [0], [3]])
    np.testing.assert_array_equal(module(x), np.abs(x))
    np.testing.assert_array_equal(module.backward(np.ones_like(x)), [[-1], [1], [1]])  # at 0 to the first piece
    np.testing.assert_array_equal(module.linear.bias.grad, [2, 1])


@pytest.mark.filterwarnings("ignore:invalid value")
def test_nan_wins():
    module = nn.Maxout(1, 1, 3)
    module.linear.weight.data[...] = [[1], [np.nan], [np.inf]]
    module.linear.bias.data[...] = 0
    assert np.isnan(module(np.ones((1, 1), np.float32)))
    module.backward(np.ones((1, 1), np.float32))
    np.testing.assert_array_equal(module.linear.bias.grad, [0, 1, 0])


def test_keys_and_errors():
    assert list(nn.Maxout(5, 4, 3).state_dict()) == ["linear.weight", "linear.bias"]
    assert list(nn.Maxout2d(5, 4, 3, 3, bias=False).state_dict()) == ["conv.weight"]
    assert "pieces=3" in repr(nn.Maxout(5, 4, 3))
    for make in (lambda: nn.Maxout(5, 4, 0), lambda: nn.Maxout2d(5, 4, 3, 0)):
        with pytest.raises(ValueError, match="pieces is 0, expected at least 1"):
            make()
    with pytest.raises(ValueError, match="does not divide out_channels, 3"):
        nn.Maxout2d(4, 3, 1, pieces=2, groups=2)
    with pytest.raises(ValueError, match="in_features is 5"):
        nn.Maxout(5, 4, 3)(np.zeros((2, 6), np.float32))


@pytest.mark.parametrize(("module", "shape"), [(nn.Maxout(5, 4, 3), (0, 5)), (nn.Maxout(5, 0, 3), (2, 5))], ids=repr)
def test_empty(module, shape):
    y = module(np.zeros(shape, np.float32))
    assert y.shape == (*shape[:-1], module.linear.weight.shape[0] // 3)
    assert module.backward(np.zeros_like(y)).shape == shape
