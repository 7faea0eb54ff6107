import numpy as np
import pytest

import nnk
from nnk import nn

MODULES = [("ReLU", {}), ("LeakyReLU", {}), ("LeakyReLU", {"negative_slope": -0.5}), ("Sigmoid", {}), ("Tanh", {})]


@pytest.mark.parametrize("shape", [(), (5,), (2, 3), (2, 3, 4, 5), (0, 3), (2, 1, 2, 1, 3)])
@pytest.mark.parametrize(("name", "kwargs"), MODULES)
def test_as_in_torch(same_as_torch, rng, name, kwargs, shape):
    same_as_torch(name, (), kwargs, np.asarray(rng.standard_normal(shape)))


@pytest.mark.parametrize(("name", "kwargs"), MODULES)
def test_kinks_and_saturation_as_in_torch(same_as_torch, name, kwargs):
    same_as_torch(name, (), kwargs, np.array([0.0, -0.0, 1e4, -1e4, 1e-300, -1e-300]))


@pytest.mark.parametrize(("name", "kwargs"), MODULES)
def test_gradcheck(rng, name, kwargs):
    assert nnk.testing.gradcheck(getattr(nn, name)(**kwargs), rng.standard_normal((3, 4)))


@pytest.mark.parametrize(("name", "kwargs"), MODULES)
def test_nan_goes_through(reference, name, kwargs):
    assert np.isnan(getattr(nn, name)(**kwargs)(np.array([np.nan])))


def test_inplace_leaves_the_input(reference):
    x = np.array([-1.0, 1.0])
    nn.ReLU(inplace=True)(x)
    np.testing.assert_array_equal(x, [-1.0, 1.0])
