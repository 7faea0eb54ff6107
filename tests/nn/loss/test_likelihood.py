import numpy as np
import pytest

import nnk
from nnk import nn
from nnk.testing import gradcheck

WIDTHS = [
    ((5, 4), (5, 4)),
    ((5, 4), (5,)),
    ((5, 4), (5, 1)),
    ((5, 4), (1, 4)),
    ((4,), ()),
    ((), ()),
    ((2, 3, 4, 5), (2, 1, 4, 5)),
    ((0, 3), (0, 3)),
]


def check(theirs, ours, rng, x, target, width):
    """Compare loss and gradients of a likelihood with those of a function of PyTorch tensors."""
    torch = pytest.importorskip("torch")
    leaves = [torch.tensor(v).requires_grad_() for v in (x, width)]
    loss, expected = ours(x, target, width), theirs(leaves[0], torch.tensor(target), leaves[1])
    np.testing.assert_allclose(loss, expected.detach(), rtol=1e-10, atol=1e-12)
    dy = np.asarray(rng.standard_normal(loss.shape))
    expected.backward(torch.tensor(dy))
    gradients = ours.backward(dy)
    for got, leaf in zip(gradients, leaves, strict=True):
        np.testing.assert_allclose(got, leaf.grad, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("options", [{}, {"full": True}, {"eps": 0.5}], ids=str)
@pytest.mark.parametrize(("shape", "width"), WIDTHS)
def test_gaussian_as_in_torch(reference, rng, shape, width, options, reduction):
    torch = pytest.importorskip("torch")
    options = {"reduction": reduction, **options}
    x, target = (np.asarray(rng.standard_normal(shape)) for _ in range(2))
    var = np.asarray(rng.uniform(0.1, 2, width))
    check(torch.nn.GaussianNLLLoss(**options), nn.GaussianNLLLoss(**options), rng, x, target, var)


@pytest.mark.parametrize("target", [(4,), (1, 4), (3, 5, 4)])
def test_gaussian_targets_that_broadcast_as_in_torch(reference, rng, target):
    torch = pytest.importorskip("torch")
    x, var = rng.standard_normal((5, 4)), rng.uniform(0.1, 2, (5, 1))
    check(torch.nn.GaussianNLLLoss(), nn.GaussianNLLLoss(), rng, x, rng.standard_normal(target), var)


def test_gaussian_variance_at_its_floor_as_in_torch(reference, rng):
    torch = pytest.importorskip("torch")
    x, var = np.array([0, 2e-3, 1, 1e4, 1, 1]), np.array([0, 0, 1e-30, 1e-7, 1e-6, 2e-6])
    options = {"reduction": "none"}
    check(torch.nn.GaussianNLLLoss(**options), nn.GaussianNLLLoss(**options), rng, x, np.zeros(6), var)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(("shape", "width"), WIDTHS)
def test_laplace_is_minus_the_log_of_its_density(reference, rng, shape, width, full, reduction):
    torch = pytest.importorskip("torch")

    def theirs(x, target, scale):
        if scale.shape == x.shape[:-1] and x.ndim:
            scale = scale[..., None]
        losses = -torch.distributions.Laplace(x, scale).log_prob(target) - (0 if full else np.log(2))
        return losses if reduction == "none" else getattr(losses, reduction)()

    x, target = (np.asarray(rng.standard_normal(shape)) for _ in range(2))
    ours = nn.LaplaceNLLLoss(full=full, reduction=reduction)
    check(theirs, ours, rng, x, target, np.asarray(rng.uniform(0.1, 2, width)))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_bernoulli_is_minus_the_log_of_its_probability(same_as_torch, rng, reduction, monkeypatch):
    torch = pytest.importorskip("torch")

    class BernoulliNLLLoss(torch.nn.Module):
        def __init__(self, reduction):
            super().__init__()
            self.reduction = reduction

        def forward(self, p, target):
            losses = -torch.distributions.Bernoulli(p).log_prob(target)
            return losses if self.reduction == "none" else getattr(losses, self.reduction)()

    monkeypatch.setattr(torch.nn, "BernoulliNLLLoss", BernoulliNLLLoss, raising=False)
    x, target = rng.uniform(0.01, 0.99, (5, 4)), rng.integers(0, 2, (5, 4)).astype(float)
    same_as_torch("BernoulliNLLLoss", (), {"reduction": reduction}, x, target)


FLOORS = [
    # criterion, input, target, width, loss, gradient to the input, gradient to the width
    (nn.GaussianNLLLoss(), 1.0, 0.0, 0.0, (np.log(1e-6) + 1e6) / 2, 1e6, (1 - 1e6) * 5e5),
    (nn.GaussianNLLLoss(), 0.0, 0.0, 0.0, np.log(1e-6) / 2, 0, 5e5),
    (nn.GaussianNLLLoss(full=True), 0.0, 0.0, 1.0, np.log(2 * np.pi) / 2, 0, 0.5),
    (nn.GaussianNLLLoss(), 1e4, -1e4, 1.0, 2e8, 2e4, -2e8),
    (nn.LaplaceNLLLoss(), 1.0, 0.0, 0.0, np.log(1e-6) + 1e6, 1e6, (1 - 1e6) * 1e6),
    (nn.LaplaceNLLLoss(), 0.0, 0.0, 0.0, np.log(1e-6), 0, 1e6),
    (nn.LaplaceNLLLoss(full=True), 0.0, 0.0, 1.0, np.log(2), 0, 1),
    (nn.LaplaceNLLLoss(), 1e4, -1e4, 1.0, 2e4, 1, 1 - 2e4),
]


@pytest.mark.parametrize(("criterion", "x", "target", "width", "loss", "dx", "dwidth"), FLOORS)
def test_floors_and_far_targets_on_the_cpu(criterion, x, target, width, loss, dx, dwidth):
    got = criterion(*(np.full(1, value, np.float32) for value in (x, target, width)))
    gradients = criterion.backward()
    np.testing.assert_allclose([got, *(float(g[0]) for g in gradients)], [loss, dx, dwidth], rtol=2e-6)


@pytest.mark.parametrize(
    ("p", "target", "loss", "slope"),
    [(0, 1, -np.log(1e-6), -1e6), (1, 0, -np.log(1e-6), 1e6), (0, 0, 0, 1), (1, 1, 0, -1)],
)
def test_bernoulli_at_its_floor_on_the_cpu(p, target, loss, slope):
    criterion = nn.BernoulliNLLLoss()
    assert criterion(np.float32(p), np.array(target)) == pytest.approx(loss, rel=1e-6)
    assert criterion.backward() == pytest.approx(slope, rel=1e-6)


@pytest.mark.parametrize("name", ["GaussianNLLLoss", "LaplaceNLLLoss"])
def test_a_width_that_is_a_number_has_no_gradient(name):
    criterion = getattr(nn, name)(reduction="none")
    x, target = np.float32([1, 2, 4]), np.zeros(3, np.float32)
    of_number, of_array = criterion(x, target, 2), criterion(x, target, np.full(3, 2, np.float32))
    np.testing.assert_array_equal(of_number, of_array)
    dx, _ = criterion.backward(np.ones(3, np.float32))
    np.testing.assert_array_equal(criterion.backward(np.ones(3, np.float32)), dx)


@pytest.mark.parametrize("name", ["GaussianNLLLoss", "LaplaceNLLLoss"])
@pytest.mark.parametrize("width", [(5, 4), (5,), (1, 4)])
def test_gradcheck(rng, name, width):
    x, target = rng.standard_normal((2, 5, 4))
    assert gradcheck(getattr(nn, name)(full=True), x, target, rng.uniform(0.5, 2, width), wrt=(0, 2))


def test_gradcheck_bernoulli(rng):
    assert gradcheck(nn.BernoulliNLLLoss(), rng.uniform(0.1, 0.9, (5, 4)), rng.uniform(0, 1, (5, 4)))


@pytest.mark.parametrize("name", ["GaussianNLLLoss", "LaplaceNLLLoss"])
def test_errors(reference, name):
    criterion, argument = getattr(nn, name)(), "var" if name == "GaussianNLLLoss" else "scale"
    x = np.zeros((2, 3))
    for shape in [(3,), (1, 1), (), (2, 3, 1), (4, 3), (2, 2)]:
        with pytest.raises(ValueError, match=rf"{argument} has shape .*, expected the input's, \(2, 3\)"):
            criterion(x, x, np.ones(shape))
    for width in (-1.0, np.full((2, 3), -1.0), np.array([[1, np.nan, -1], [1, 1, 1]])):
        with pytest.raises(ValueError, match=f"{argument} holds -1.0, expected no negative values"):
            criterion(x, x, width)
    with pytest.raises(ValueError, match="the shapes do not broadcast"):
        criterion(x, np.zeros(2), 1.0)
    with pytest.raises(TypeError, match=f"{argument} has dtype float32, expected the input's, float64"):
        criterion(x, x, np.ones((2, 3), np.float32))
    with pytest.raises(TypeError, match="positional"):
        getattr(nn, name)(True)


def test_training_finds_mean_and_variance(rng):
    """The least Gaussian NLL of constant predictions is at the sample's mean and variance."""
    target = rng.normal(3, 0.5, 400).astype(np.float32)
    mean, log_var = nn.Parameter(np.zeros(1, np.float32)), nn.Parameter(np.zeros(1, np.float32))
    optimizer, criterion = nnk.optim.Adam([mean, log_var], lr=0.05), nn.GaussianNLLLoss()
    for _ in range(400):
        optimizer.zero_grad()
        var = np.exp(log_var.data)
        criterion(np.broadcast_to(mean.data, 400).copy(), target, np.broadcast_to(var, 400).copy())
        dmean, dvar = criterion.backward()
        mean.accumulate(dmean.sum(keepdims=True))
        log_var.accumulate((dvar * var).sum(keepdims=True))
        optimizer.step()
    assert mean.data[0] == pytest.approx(target.mean(), abs=1e-2)
    assert np.exp(log_var.data[0]) == pytest.approx(target.var(), rel=2e-2)
