import inspect
import math

import numpy as np
import pytest

import nnk
from nnk import nn
from nnk.nn import init


@pytest.mark.parametrize(
    ("fill", "bound"),
    [
        (lambda t: init.uniform_(t, -2.0, 2.0), 2.0),
        (lambda t: init.kaiming_uniform_(t, nonlinearity="relu"), math.sqrt(6 / (20 * 9))),
        (lambda t: init.kaiming_uniform_(t, a=math.sqrt(5), mode="fan_out"), math.sqrt(1 / (30 * 9))),
        (lambda t: init.xavier_uniform_(t, gain=2.0), 2 * math.sqrt(6 / (50 * 9))),
    ],
)
def test_uniform(fill, bound):
    nnk.manual_seed(1)
    array = fill(np.zeros((30, 20, 3, 3), np.float32))
    assert np.abs(array).max() <= bound
    assert abs(array.std() / (bound / math.sqrt(3)) - 1) < 0.02
    assert abs(array.mean()) < bound / 30


@pytest.mark.parametrize(
    ("fill", "std"),
    [
        (lambda t: init.normal_(t, 0.0, 3.0), 3.0),
        (lambda t: init.kaiming_normal_(t, nonlinearity="relu"), math.sqrt(2 / (20 * 9))),
        (lambda t: init.xavier_normal_(t), math.sqrt(2 / (50 * 9))),
    ],
)
def test_normal(fill, std):
    nnk.manual_seed(1)
    array = fill(np.zeros((30, 20, 3, 3), np.float32))
    assert abs(array.std() / std - 1) < 0.05
    assert abs(array.mean()) < std / 20


def test_constants_fill_parameters_and_arrays_in_place():
    parameter = nn.Parameter(np.zeros(3, np.float32))
    assert init.ones_(parameter) is parameter
    assert (parameter.data == 1).all()
    assert (init.constant_(parameter, 4.5).data == 4.5).all()
    array = np.ones(3)
    assert init.zeros_(array) is array
    assert (array == 0).all()


def test_gains_as_in_torch():
    torch_init = pytest.importorskip("torch").nn.init
    for name in ["linear", "conv2d", "conv_transpose3d", "sigmoid", "tanh", "relu", "leaky_relu", "selu"]:
        assert init.calculate_gain(name) == torch_init.calculate_gain(name)
    assert init.calculate_gain("leaky_relu", 0.3) == torch_init.calculate_gain("leaky_relu", 0.3)


def test_default_bounds_as_in_torch():
    torch = pytest.importorskip("torch")
    for name, args in [("Linear", (50, 400)), ("Conv2d", (8, 200, 3))]:
        ours = getattr(nn, name)(*args).state_dict()
        theirs = getattr(torch.nn, name)(*args).state_dict()
        for key in ours:
            largest = float(theirs[key].abs().max())
            assert abs(np.abs(ours[key]).max() / largest - 1) < 0.05, key


def test_a_seed_repeats_in_every_dtype():
    nnk.manual_seed(7)
    first = nn.Linear(5, 4)
    nnk.manual_seed(7)
    second = nn.Linear(5, 4, dtype=np.float64)
    np.testing.assert_array_equal(first.weight.data, second.weight.data.astype(np.float32))
    generator = np.random.default_rng(0)
    third = init.uniform_(np.zeros(3), generator=generator)
    np.testing.assert_array_equal(third, np.random.default_rng(0).uniform(0, 1, 3))


def test_bad_arguments():
    with pytest.raises(ValueError, match="mode is 'fan'"):
        init.kaiming_uniform_(np.zeros((2, 2)), mode="fan")
    with pytest.raises(ValueError, match="nonlinearity is 'swish'"):
        init.kaiming_normal_(np.zeros((2, 2)), nonlinearity="swish")
    with pytest.raises(ValueError, match=r"tensor has shape \(2,\)"):
        init.xavier_uniform_(np.zeros(2))


@pytest.mark.parametrize(
    ("mean", "std", "a", "b"),
    [(0, 1, -2, 2), (0, 1, -0.1, 0.2), (1, 2, -1, 8), (0, 1, 2, 3), (5, 1, -1, 1), (0, 0.02, -0.05, 2)],
)
def test_truncated_normal(mean, std, a, b):
    nnk.manual_seed(2)
    values = init.trunc_normal_(np.zeros((200, 300)), mean, std, a, b)
    assert a <= values.min()
    assert values.max() <= b
    grid = np.linspace(a, b, 20001)
    density = np.exp(-(((grid - mean) / std) ** 2) / 2)
    expected = np.interp(np.linspace(0.01, 0.99, 50), np.cumsum(density) / density.sum(), grid)
    spread = np.quantile(values, 0.9) - np.quantile(values, 0.1)
    np.testing.assert_allclose(np.quantile(values, np.linspace(0.01, 0.99, 50)), expected, atol=0.03 * spread)


@pytest.mark.parametrize("shape", [(6, 6), (4, 10), (10, 4), (8, 3, 3, 3), (40, 2, 3, 3), (3, 0)])
def test_orthogonal(shape):
    nnk.manual_seed(1)
    weights = init.orthogonal_(np.zeros(shape), gain=2.0)
    matrix = weights.reshape(shape[0], -1) / 2
    gram = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    if weights.size:
        np.testing.assert_allclose(gram, np.eye(len(gram)), atol=1e-12)


def test_orthogonal_matrices_are_uniform():
    nnk.manual_seed(1)
    many = np.stack([init.orthogonal_(np.zeros((3, 3))) for _ in range(3000)])
    assert np.abs(many.mean(0)).max() < 0.05  # without the signs the diagonal would be negative on average
    np.testing.assert_allclose((many**2).mean(0), np.full((3, 3), 1 / 3), atol=0.03)


def test_sparse():
    nnk.manual_seed(1)
    weights = init.sparse_(np.zeros((30, 2000)), 0.25, std=0.5)
    assert ((weights == 0).sum(0) == 8).all()
    assert abs(weights[weights != 0].std() / 0.5 - 1) < 0.02
    assert np.abs((weights == 0).mean(1) - 8 / 30).max() < 0.05
    assert not init.sparse_(np.ones((3, 2)), 1.0).any()


def test_identities_as_in_torch():
    torch = pytest.importorskip("torch")
    for shape in [(3, 3), (2, 5), (4, 1)]:
        np.testing.assert_array_equal(init.eye_(np.ones(shape)), torch.nn.init.eye_(torch.ones(shape)))
    cases = [((4, 4, 3, 3), 1), ((6, 2, 3, 5), 3), ((4, 6, 1, 1), 2), ((4, 3, 4), 1), ((2, 2, 3, 3, 3), 2)]
    for shape, groups in cases:
        theirs = torch.nn.init.dirac_(torch.ones(shape), groups)
        np.testing.assert_array_equal(init.dirac_(np.ones(shape), groups), theirs)


def test_a_dirac_convolution_passes_its_input():
    conv = nn.Conv2d(4, 4, 3, padding=1, groups=2, bias=False)
    init.dirac_(conv.weight, groups=2)
    x = np.random.default_rng(0).standard_normal((2, 4, 5, 5)).astype(np.float32)
    np.testing.assert_allclose(conv(x), x, atol=1e-6)


@pytest.mark.parametrize("name", [n for n in init.__all__ if n not in ("empty", "full", "fixup_", "lsuv_")])
def test_arguments_are_torchs(name):
    torch = pytest.importorskip("torch")
    ours, theirs = (
        [(p.name, p.default, p.kind) for p in inspect.signature(getattr(o, name)).parameters.values()]
        for o in (init, torch.nn.init)
    )
    assert ours == theirs


@pytest.mark.parametrize(
    ("fill", "message"),
    [
        (lambda: init.trunc_normal_(np.zeros(2), a=1, b=1), "a is 1 and b is 1, expected a < b"),
        (lambda: init.trunc_normal_(np.zeros(2), std=0), "std is 0, expected above 0"),
        (lambda: init.normal_(np.zeros(2), std=-1), "std is -1, expected at least 0"),
        (lambda: init.uniform_(np.zeros(2), 1, 0), "a is 1 and b is 0, expected a <= b"),
        (lambda: init.orthogonal_(np.zeros(2)), r"tensor has shape \(2,\)"),
        (lambda: init.eye_(np.zeros(2)), r"tensor has shape \(2,\), expected two axes"),
        (lambda: init.sparse_(np.zeros((2, 2, 2)), 0.1), "expected two axes"),
        (lambda: init.sparse_(np.zeros((2, 2)), 1.1), r"sparsity is 1\.1"),
        (lambda: init.dirac_(np.zeros((2, 2))), "expected three to five axes"),
        (lambda: init.dirac_(np.zeros((3, 2, 1)), 2), "groups is 2, expected a divisor of the first axis, 3"),
    ],
)
def test_what_cannot_be_filled(fill, message):
    with pytest.raises(ValueError, match=message):
        fill()


@pytest.mark.parametrize(
    "fill", [init.zeros_, init.normal_, init.xavier_uniform_, init.orthogonal_, init.eye_, init.dirac_]
)
def test_only_arrays_of_floats_are_filled(fill):
    with pytest.raises(TypeError, match="tensor is a list, expected a Parameter or an array"):
        fill([[1.0]])
    with pytest.raises(TypeError, match="tensor has dtype int64, expected floats"):
        fill(np.ones((2, 2, 2), np.int64))
