import numpy as np
import pytest

import nnk
from nnk import nn


@pytest.mark.parametrize("shape", [(), (5,), (2, 3), (2, 3, 4), (2, 3, 4, 5), (0, 3), (2, 3, 2, 1, 3)])
@pytest.mark.parametrize("slopes", [1, 3])
def test_prelu_as_in_torch(same_as_torch, rng, shape, slopes):
    if slopes == 1 or len(shape) > 1:
        same_as_torch("PReLU", (slopes, -0.5), {}, np.asarray(rng.standard_normal(shape)))


def test_prelu_at_its_kink_and_far_out_as_in_torch(same_as_torch):
    same_as_torch("PReLU", (), {}, np.array([0.0, -0.0, 1e-300, -1e-300, 1e4, -1e4]))
    same_as_torch("PReLU", (), {}, np.array([np.inf, 1.0]))


@pytest.mark.parametrize("repeats", [1, 64])
def test_prelu_value_by_value_in_float32(repeats):
    module = nn.PReLU(init=0.5)
    x = np.tile(np.float32([0, -0.0, 2, -2, np.inf]), repeats)
    np.testing.assert_array_equal(module(x), np.tile([0, 0, 2, -1, np.inf], repeats))
    np.testing.assert_array_equal(module.backward(np.ones_like(x)), np.tile([0.5, 0.5, 1, 0.5, 1], repeats))
    assert module.weight.grad == -2 * repeats


def test_prelu_sums_many_small_terms():
    """A sum of 2**24 equal terms in float32 would stop growing at 2**24 times the smallest."""
    module = nn.PReLU()
    x = np.full((1 << 24) + 3, -1.1, np.float32)
    module(x)
    module.backward(np.ones_like(x))
    np.testing.assert_allclose(module.weight.grad, x.sum(dtype=float), rtol=1e-6)


@pytest.mark.parametrize("shape", [(), (3,), (2, 4), (4, 2, 3)])
def test_prelu_with_another_number_of_channels(shape):
    with pytest.raises(ValueError, match="num_parameters is 3"):
        nn.PReLU(3)(np.zeros(shape, np.float32))


def test_prelu_needs_a_slope():
    with pytest.raises(ValueError, match="num_parameters is 0, expected at least 1"):
        nn.PReLU(0)


def test_slopes_begin_where_they_are_told():
    module = nn.PReLU(2, 0.1)
    np.testing.assert_array_equal(module.weight.data, np.float32([0.1, 0.1]))
    module.weight.data[...] = 3
    module.reset_parameters()
    np.testing.assert_array_equal(module.weight.data, np.float32([0.1, 0.1]))


@pytest.mark.parametrize("module", [nn.PReLU(), nn.PReLU(4), nn.Swish(), nn.Swish(-0.7, learnable=True)], ids=repr)
@pytest.mark.parametrize("shape", [(3, 4), (2, 4, 3, 2)])
def test_gradcheck(rng, module, shape):
    assert nnk.testing.gradcheck(module, rng.standard_normal(shape))


def test_a_frozen_slope_gets_no_gradient(rng):
    for module in (nn.PReLU(), nn.Swish(learnable=True)):
        module.requires_grad_(False)
        module(rng.standard_normal(3).astype(np.float32))
        module.backward(np.ones(3, np.float32))
        assert [p.grad for p in module.parameters()] == [None]


def test_swish_is_silu_with_a_slope(reference, rng):
    x = rng.standard_normal((3, 4))
    np.testing.assert_allclose(nn.Swish().double()(x), nn.SiLU()(x))
    np.testing.assert_allclose(nn.Swish(2.5).double()(x), x / (1 + np.exp(-2.5 * x)))


def test_only_a_learnable_beta_is_learned(rng):
    x = rng.standard_normal((3, 4)).astype(np.float32)
    for learnable in (False, True):
        module = nn.Swish(0.5, learnable)
        module(x)
        module.backward(np.ones_like(x))
        assert (module.beta.grad is not None) == learnable
        assert f"beta=0.5, learnable={learnable}" in repr(module)


def test_swish_far_out_in_float32():
    module = nn.Swish(2.0, learnable=True)
    x = np.float32([0, 200, -200, 3e38, -3e38])
    np.testing.assert_array_equal(module(x), np.float32([0, 200, 0, 3e38, 0]))
    np.testing.assert_array_equal(module.backward(np.ones_like(x)), [0.5, 1, 0, 1, 0])
    np.testing.assert_array_equal(module.beta.grad, [0])
