"""What convolutions do beside the sum: bias, scale and ReLU where the outputs are stored."""

import numpy as np
import pytest

from nnk.kernels import cpu

# x, weight, precision: one for each kernel that stores outputs.
KERNELS = {
    "depthwise": ((2, 20, 6, 6), (20, 1, 3, 3), "high"),
    "few": ((2, 3, 6, 6), (20, 3, 3, 3), "high"),
    "direct": ((2, 20, 6, 6), (20, 20, 3, 3), "high"),
    "direct, one vector": ((2, 20, 6, 6), (9, 20, 3, 3), "high"),
    "direct, three vectors": ((2, 20, 6, 6), (48, 20, 3, 3), "high"),
    "F(2 x 2)": ((2, 32, 6, 7), (32, 32, 3, 3), "highest"),
    "F(4 x 4)": ((2, 32, 6, 7), (32, 32, 3, 3), "high"),
}


def arrays(name):
    x_shape, weight_shape, precision = KERNELS[name]
    rng = np.random.default_rng(0)
    x, weight, bias = (rng.standard_normal(s).astype(np.float32) for s in (x_shape, weight_shape, weight_shape[0]))
    groups = x_shape[1] // weight_shape[1]
    return x, weight, bias, {"padding": (1, 1), "groups": groups, "precision": precision}


@pytest.mark.parametrize("name", KERNELS)
def test_relu_is_that_of_the_activation(name):
    x, weight, bias, options = arrays(name)
    y = cpu.conv2d(x, weight, bias, activation="relu", **options)
    np.testing.assert_array_equal(y, np.maximum(cpu.conv2d(x, weight, bias, **options), 0))
    assert (y == 0).any()
    assert (y > 0).any()


@pytest.mark.parametrize("name", KERNELS)
def test_relu_lets_nan_and_infinity_through(name):
    x, weight, bias, options = arrays(name)
    bias[0], bias[1], bias[2] = np.nan, np.inf, -np.inf
    y = cpu.conv2d(x, weight, bias, activation="relu", **options)
    assert np.isnan(y[:, 0]).all()
    assert (y[:, 1] == np.inf).all()
    assert (y[:, 2] == 0).all()
    assert np.isfinite(y[:, 3:]).all()
    y = cpu.conv2d(x, weight, bias, **options)
    assert (y[:, 2] == -np.inf).all()


@pytest.mark.parametrize("name", KERNELS)
def test_a_scale_is_a_factor_of_each_filter(name):
    x, weight, bias, options = arrays(name)
    scale = 2.0 ** (np.arange(len(weight), dtype=np.float32) % 5)
    y = cpu.conv2d(x, weight, bias, scale=scale, **options)
    np.testing.assert_allclose(
        y, cpu.conv2d(x, weight, **options) * scale[:, None, None] + bias[:, None, None], rtol=1e-4, atol=1e-3
    )
