import inspect

import numpy as np
import pytest

import nnk
from nnk import nn

MODULES = [
    ("ReLU", {}),
    ("LeakyReLU", {}),
    ("LeakyReLU", {"negative_slope": -0.5}),
    ("ReLU6", {}),
    ("Hardsigmoid", {}),
    ("Hardswish", {}),
    ("Sigmoid", {}),
    ("Tanh", {}),
    ("ELU", {}),
    ("ELU", {"alpha": -0.5}),
    ("SELU", {}),
    ("GELU", {}),
    ("GELU", {"approximate": "tanh"}),
    ("SiLU", {}),
    ("Mish", {}),
    ("Softplus", {}),
    ("Softplus", {"beta": 2.0, "threshold": 1.5}),
]
# PyTorch divides dy by 6 in float32 here.
LOOSE = {"Hardsigmoid": 1e-7}
# Infinities come last: PyTorch has NaN there where ours has, too.
KINKS = [0.0, -0.0, 3.0, -3.0, 6.0, -6.0, 20.0, -20.0, 1e-300, -1e-300]
BESIDE = [np.nextafter(kink, end) for kink in (3.0, -3.0, 6.0, 20.0, 0.75) for end in (-np.inf, np.inf)]
FAR = [50.0, -50.0, 700.0, -700.0, 1e4, -1e4, 1e30, -1e30, np.inf, -np.inf]

SCALE, ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717

each_module = pytest.mark.parametrize(("name", "kwargs"), MODULES)


@pytest.mark.parametrize("shape", [(), (5,), (2, 3), (2, 3, 4, 5), (0, 3), (2, 1, 2, 1, 3)])
@each_module
def test_as_in_torch(same_as_torch, rng, name, kwargs, shape):
    same_as_torch(name, (), kwargs, 4 * np.asarray(rng.standard_normal(shape)), rtol=LOOSE.get(name, 1e-9))


@pytest.mark.filterwarnings("ignore:invalid value")
@each_module
def test_kinks_and_saturation_as_in_torch(same_as_torch, name, kwargs):
    same_as_torch(name, (), kwargs, np.array(KINKS + BESIDE + FAR), rtol=LOOSE.get(name, 1e-9))


@pytest.mark.parametrize(
    ("module", "x", "y", "slope"),
    [
        (nn.ReLU(), [0, -0.0, np.inf, -np.inf], [0, 0, np.inf, 0], [0, 0, 1, 0]),
        (nn.LeakyReLU(0.5), [0, -2, np.inf, -np.inf], [0, -1, np.inf, -np.inf], [0.5, 0.5, 1, 0.5]),
        (nn.ReLU6(), [0, 6, 5, -np.inf, np.inf], [0, 6, 5, 0, 6], [0, 0, 1, 0, 0]),
        (nn.Hardsigmoid(), [-3, 3, 0, -np.inf, np.inf], [0, 1, 0.5, 0, 1], [0, 0, 1 / 6, 0, 0]),
        (nn.Hardswish(), [-3, 3, 0, -3e38, np.inf], [0, 3, 0, 0, np.inf], [0, 1, 0.5, 0, 1]),
        (nn.Sigmoid(), [0, 200, -200, np.inf, -np.inf], [0.5, 1, 0, 1, 0], [0.25, 0, 0, 0, 0]),
        (nn.ELU(2.0), [0, -1e-9, -200, np.inf, -np.inf], [0, -2e-9, -2, np.inf, -2], [2, 2, 0, 1, 0]),
        (nn.SELU(), [0, 1, -200, -np.inf], [0, SCALE, -SCALE * ALPHA, -SCALE * ALPHA], [SCALE * ALPHA, SCALE, 0, 0]),
        (nn.GELU(), [0, 20, -20, 3e38, -3e38], [0, 20, 0, 3e38, 0], [0.5, 1, 0, 1, 0]),
        (nn.GELU("tanh"), [0, 20, -20, 3e38, -3e38], [0, 20, 0, 3e38, 0], [0.5, 1, 0, 1, 0]),
        (nn.GELU("sigmoid"), [0, 80, -80, 3e38, -3e38], [0, 80, 0, 3e38, 0], [0.5, 1, 0, 1, 0]),
        (nn.SiLU(), [0, 200, -200, 3e38, -3e38], [0, 200, 0, 3e38, 0], [0.5, 1, 0, 1, 0]),
        (nn.SiLU(), [-50], [-50 * np.exp(-50)], [-49 * np.exp(-50)]),
        (nn.Mish(), [0, 200, -200, 3e38, -3e38], [0, 200, 0, 3e38, 0], [0.6, 1, 0, 1, 0]),
        (nn.Mish(), [-50], [-50 * np.exp(-50)], [-49 * np.exp(-50)]),
        (nn.Softplus(), [0, -50, 20, 21, np.inf], [np.log(2), np.exp(-50), 20, 21, np.inf], [0.5, 0, 1, 1, 1]),
        (nn.Softplus(1, 0), [0, 1e-30, -np.inf], [np.log(2), 1e-30, 0], [0.5, 1, 0]),  # 0 is not above the threshold
        (nn.Tanh(), [0, 50, -50, np.inf, -np.inf], [0, 1, -1, 1, -1], [1, 0, 0, 0, 0]),
    ],
    ids=repr,
)
def test_values_at_kinks_and_far_out_in_float32(module, x, y, slope):
    """On the CPU's vectors and, by themselves, in a tail of one lane."""
    x, y, slope = (np.float32(value) for value in (x, y, slope))
    for repeats in (1, 64):
        np.testing.assert_allclose(module(np.tile(x, repeats)), np.tile(y, repeats), rtol=1e-6)
        dx = module.backward(np.ones(repeats * x.size, np.float32))
        np.testing.assert_allclose(dx, np.tile(slope, repeats), rtol=1e-6, atol=1e-7)


@each_module
def test_gradcheck(rng, name, kwargs):
    assert nnk.testing.gradcheck(getattr(nn, name)(**kwargs), 3 * rng.standard_normal((3, 4)))


def test_gelu_by_the_logistic_function(reference, rng):
    module, x = nn.GELU("sigmoid"), rng.standard_normal((3, 4))
    np.testing.assert_allclose(module(x), x / (1 + np.exp(-1.702 * x)), rtol=1e-12)
    assert nnk.testing.gradcheck(module, x)
    with pytest.raises(ValueError, match="approximate='erf' is not supported"):
        nn.GELU("erf")


@pytest.mark.filterwarnings("ignore:invalid value")
@each_module
def test_nan_goes_through(name, kwargs):
    module = getattr(nn, name)(**kwargs)
    x = np.zeros(70, np.float32)
    x[[3, 69]] = np.nan
    assert np.array_equal(np.isnan(module(x)), np.isnan(x))
    module(np.ones(3, np.float32))
    assert np.isnan(module.backward(np.float32([np.nan] * 3))).all()
    with nnk.use_backend("reference"):
        assert np.isnan(module(np.array(np.nan)))


@each_module
def test_the_memory_order_stays(name, kwargs):
    module = getattr(nn, name)(**kwargs)
    x = np.ones((2, 3, 4, 5), np.float32).transpose(1, 3, 0, 2)
    y = module(x)
    assert y.strides == x.strides
    assert module.backward(np.ones(x.shape, np.float32)).strides == x.strides


@each_module
def test_inplace_leaves_the_input(reference, name, kwargs):
    if "inplace" not in inspect.signature(getattr(nn, name)).parameters:
        pytest.skip("has no argument inplace")
    x = np.array([-1.0, 1.0])
    module = getattr(nn, name)(**kwargs, inplace=True)
    module(x)
    np.testing.assert_array_equal(x, [-1.0, 1.0])
    assert "inplace=True" in repr(module)
