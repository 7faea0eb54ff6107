import numpy as np
import pytest

import nnk
from nnk import nn


def test_channels_times_their_gates(reference, rng):
    layer, x = nn.SqueezeExcitation(6, reduction=2).double(), rng.standard_normal((3, 6, 4, 5))
    hidden = np.maximum(x.mean(axis=(2, 3)) @ layer.fc1.weight.data.T + layer.fc1.bias.data, 0)
    gates = 1 / (1 + np.exp(-(hidden @ layer.fc2.weight.data.T + layer.fc2.bias.data)))
    np.testing.assert_allclose(layer(x), gates[:, :, None, None] * x)
    np.testing.assert_allclose(layer(x[1]), layer(x)[1])
    assert list(layer.state_dict()) == ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]


@pytest.mark.parametrize("shape", [(2, 8, 3, 4), (8, 5, 5)])
def test_gradcheck(reference, rng, shape):
    assert nnk.testing.gradcheck(nn.SqueezeExcitation(8, 4).double(), rng.standard_normal(shape))


def test_without_a_gradient_to_the_input(reference, rng):
    layer, x = nn.SqueezeExcitation(4, 2).double(), rng.standard_normal((2, 4, 3, 3))
    layer.backward(np.ones_like(layer(x)))
    expected = layer.fc1.weight.grad.copy()
    layer.zero_grad()
    assert layer.backward(np.ones_like(layer(x)), input_grad=False) is None
    np.testing.assert_array_equal(layer.fc1.weight.grad, expected)


def test_bad_input():
    with pytest.raises(ValueError, match="reduction is 16, expected at most channels, 8"):
        nn.SqueezeExcitation(8)
    with pytest.raises(ValueError, match=r"shape \(2, 3, 4, 4\), expected \(N, 16, H, W\)"):
        nn.SqueezeExcitation(16)(np.zeros((2, 3, 4, 4), np.float32))
