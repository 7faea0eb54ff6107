"""What convolutions do beside the sum: bias, scale and ReLU where the outputs are stored."""

import numpy as np
import pytest

from nnk.kernels import cpu, parity
from nnk.kernels.cpu import _driver, _winograd, _winograd_wgrad
from nnk.kernels.ops import OPS

# x, weight, precision: one for each kernel that stores outputs.
KERNELS = {
    "depthwise": ((2, 20, 6, 6), (20, 1, 3, 3), "high"),
    "few": ((2, 3, 6, 6), (20, 3, 3, 3), "high"),
    "direct": ((2, 20, 6, 6), (20, 20, 3, 3), "high"),
    "direct, one vector": ((2, 20, 6, 6), (9, 20, 3, 3), "high"),
    "direct, three vectors": ((2, 20, 6, 6), (48, 20, 3, 3), "high"),
    "F(2 x 2)": ((8, 32, 6, 7), (32, 32, 3, 3), "highest"),
    "F(4 x 4)": ((8, 32, 6, 7), (32, 32, 3, 3), "high"),
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
def test_a_residual_is_added_before_the_relu(name):
    x, weight, bias, options = arrays(name)
    alone = cpu.conv2d(x, weight, bias, **options)
    residual = np.random.default_rng(1).standard_normal(alone.shape).astype(np.float32)
    residual[0, 1] = np.nan
    y = cpu.conv2d(x, weight, bias, residual=residual, **options)
    np.testing.assert_array_equal(y, alone + residual)
    y = cpu.conv2d(x, weight, bias, residual=residual, activation="relu", **options)
    np.testing.assert_array_equal(y, np.maximum(alone + residual, 0))


@pytest.mark.parametrize("name", KERNELS)
def test_a_scale_is_a_factor_of_each_filter(name):
    x, weight, bias, options = arrays(name)
    scale = 2.0 ** (np.arange(len(weight), dtype=np.float32) % 5)
    y = cpu.conv2d(x, weight, bias, scale=scale, **options)
    np.testing.assert_allclose(
        y, cpu.conv2d(x, weight, **options) * scale[:, None, None] + bias[:, None, None], rtol=1e-4, atol=1e-3
    )


CONV2D = next(op.suite for op in OPS if op.name == "conv2d")
WINOGRAD = [case for case in CONV2D.cases if case.name.startswith("winograd") and "empty" not in case.name]


@pytest.fixture
def threads():
    """No more than four: the more threads, the more tiles Winograd's algorithm needs."""
    before = _driver.get_num_threads()
    _driver.set_num_threads(min(before, 4))
    yield
    _driver.set_num_threads(before)


@pytest.mark.parametrize("case", WINOGRAD, ids=lambda case: case.name)
def test_cases_reach_the_kernels_they_are_for(case, threads, monkeypatch):
    reached = []

    def watch(module, name):
        function = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *args, **kwargs: reached.append(name) or function(*args, **kwargs))

    watch(_winograd, "forward")
    watch(_winograd, "backward")
    watch(_winograd_wgrad, "weight_gradient")
    inputs = parity.make_inputs(case, np.float32)
    CONV2D.run(cpu, **inputs)
    narrow = min(inputs["weight"].shape[:2]) <= 16 and inputs["precision"] == "highest"
    assert narrow or set(reached) == {"forward", "backward", "weight_gradient"}


@pytest.mark.parametrize("channels", [64, 256])
def test_one_small_image_is_convolved_directly(channels, monkeypatch):
    monkeypatch.setattr(_winograd, "forward", None)
    monkeypatch.setattr(_winograd_wgrad, "weight_gradient", None)
    x, weight = np.ones((1, channels, 4, 4), np.float32), np.ones((channels, channels, 3, 3), np.float32)
    y = cpu.conv2d(x, weight, padding=(1, 1), precision="high", keep_packed=True)
    dweight = cpu.conv2d_wgrad(y, x, weight.shape, padding=(1, 1), precision="high")
    assert y[0, 0, 1, 1] == 9 * channels
    assert dweight[0, 0, 1, 1] == channels * (4 * 4 + 8 * 6 + 4 * 9)


@pytest.mark.parametrize("channels", [3, 8, 64])
@pytest.mark.parametrize("stride", [(1, 1), (2, 2)])
def test_plans_are_made_for_the_shape_and_the_threads_at_hand(channels, stride, monkeypatch):
    """Batches, thread counts and floors in turn: what one of them left behind serves no other."""
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((16, channels, 3, 3), np.float32)
    options = {"stride": stride, "padding": (1, 1)}

    def results(n, threads):
        monkeypatch.setattr(_driver, "_threads", threads)
        x = np.random.default_rng(n).standard_normal((n, channels, 9, 9), np.float32)
        y = cpu.conv2d(x, weight, **options)
        rectified = cpu.conv2d(x, weight, activation="relu", **options)
        dx = cpu.conv2d_dgrad(y, weight, x.shape, **options)
        return y, rectified, dx, cpu.conv2d_wgrad(y, x, weight.shape, **options)

    first = {(n, threads): results(n, threads) for n in (5, 2) for threads in (1, 2)}
    for (n, threads), want in first.items():
        for got, expected in zip(results(n, threads), want):
            assert np.array_equal(got, expected)
        for got, alone in zip(want, first[n, 1]):
            assert np.allclose(got, alone, rtol=1e-4, atol=1e-4 * np.abs(alone).max())
        assert np.array_equal(want[1], np.maximum(want[0], 0))
