"""Gradients of whole networks in every precision, against the reference in float64."""

import copy

import numpy as np
import pytest

import nnk
from nnk import backend, models, nn
from nnk.train.precision import MixedPrecision

# The norm of the error of a gradient over that of the gradient: rounding of the factors, by 6e-8, 2⁻¹¹ and 2⁻⁸,
# grows from layer to layer as batch norms divide by small deviations.
BOUNDS = {"highest": 1e-4, "high": 2e-2, "medium": 1e-1}
# Images of 16 bits round all that lies between layers too, by 2⁻¹¹ and 2⁻⁸: PyTorch's autocast errs by 0.01 and 0.16.
MIXED_BOUNDS = {"fp16": 2e-2, "bf16": 2e-1}


def gradients(model, x, y, precision=None):
    loss, halves = nn.CrossEntropyLoss(), MixedPrecision(precision)
    loss(halves.widen(model(halves.narrow(x))), y)
    model.backward(halves.narrow(loss.backward()), input_grad=False)
    return {name: backend.asarray_on(p.grad, "cpu").astype(np.float64) for name, p in model.named_parameters()}


def expected(model, x, y):
    with nnk.use_backend("reference"):
        return gradients(copy.deepcopy(model).double(), x.astype(np.float64), y)


def check(found, want, bound):
    errors = {name: np.linalg.norm(found[name] - want[name]) / np.linalg.norm(want[name]) for name in want}
    assert max(errors.values()) < bound, f"over {bound}: {errors}"


@pytest.fixture(params=BOUNDS)
def precision(request):
    before = backend.get_precision()
    nnk.set_precision(request.param)
    yield request.param
    nnk.set_precision(before)


def batch(size, count, classes=10):
    rng = np.random.default_rng(5)
    return rng.standard_normal((count, 3, size, size)).astype(np.float32), rng.integers(0, classes, count)


def residual_network():
    nnk.manual_seed(2)

    def conv(before, after, stride=1):
        return nn.Conv2d(before, after, 3, stride, padding=1, bias=False), nn.BatchNorm2d(after)

    body = nn.Sequential(*conv(8, 16, 2), nn.ReLU(), *conv(16, 16))
    shortcut = nn.Sequential(nn.Conv2d(8, 16, 1, 2, bias=False), nn.BatchNorm2d(16))
    return nn.Sequential(
        *conv(3, 8), nn.ReLU(), nn.Residual(body, shortcut), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(16, 10),
    )  # fmt: skip


@pytest.mark.usefixtures("simulator")
def test_cuda_a_residual_network_in_the_simulator(precision):
    model = residual_network()
    x, y = batch(6, 4)
    want = expected(model, x, y)
    with nnk.use_backend("cuda"):
        found = gradients(model, x, y)
    check(found, want, BOUNDS[precision])


@pytest.mark.usefixtures("simulator")
@pytest.mark.parametrize("precision", MIXED_BOUNDS)
def test_cuda_a_residual_network_in_mixed_precision(precision):
    pytest.importorskip("ml_dtypes")
    model = residual_network()
    x, y = batch(6, 4)
    want = expected(model, x, y)
    with nnk.use_backend("cuda"):
        found = gradients(model, x, y, precision)
    check(found, want, MIXED_BOUNDS[precision])


@pytest.mark.usefixtures("simulator")
@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (nn.Conv2d, (8, 16, 3)), (nn.Linear, (6, 10)), (nn.PReLU, (8,)), (nn.BatchNorm2d, (8,)), (nn.GroupNorm, (2, 8)),
        (nn.LayerNorm, (6,)),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)  # fmt: skip
def test_cuda_gradients_to_parameters_are_not_rounded(kind, arguments, monkeypatch):
    """They leave the kernels in float32, where 16 bits would err by 2⁻⁹, and go nowhere else on their way."""
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    nnk.manual_seed(2)
    model, taken, accumulate = kind(*arguments), [], nn.Parameter.accumulate
    monkeypatch.setattr(nn.Parameter, "accumulate", lambda self, grad: (taken.append(grad), accumulate(self, grad)))
    rng, sums = np.random.default_rng(5), {}
    for _ in range(2):
        x = rng.standard_normal((4, 8, 6, 6)).astype(bfloat16)
        with nnk.use_backend("cuda"):
            dy = rng.standard_normal(model(x).shape).astype(bfloat16)
            model.backward(dy, input_grad=False)
        assert {grad.dtype.name for grad in taken} == {"float32"}
        seen = copy.deepcopy(model).double()
        seen.zero_grad()
        with nnk.use_backend("reference"):
            seen(x.astype(np.float64))
            seen.backward(dy.astype(np.float64))
        for name, parameter in seen.named_parameters():
            sums[name] = sums.get(name, 0) + parameter.grad
        taken.clear()
    check({name: p.grad.astype(np.float64) for name, p in model.named_parameters()}, sums, 1e-6)


def test_cuda_resnet20_on_the_device(precision):
    problem = backend.cuda_problem()
    if problem:
        pytest.skip(problem)
    nnk.manual_seed(2)
    model = models.resnet20()
    x, y = batch(32, 16)
    want = expected(model, x, y)
    found = gradients(model.to("cuda"), backend.asarray_on(x, "cuda"), backend.asarray_on(y, "cuda"))
    check(found, want, BOUNDS[precision])
