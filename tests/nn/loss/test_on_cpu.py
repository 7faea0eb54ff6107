"""Every loss in float32 on the CPU kernels against itself in float64 on the reference, in any memory layout."""

import copy

import numpy as np
import pytest

import nnk
from nnk import nn

SHAPE = (4, 5, 3, 6)
DENSE, LABELS, SOFT = "uniform", "labels", "distribution"


def weights(*shape):
    return np.random.default_rng(7).uniform(0.5, 2, shape)


LOSSES = [
    (lambda **r: nn.MSELoss(**r), DENSE),
    (lambda **r: nn.L1Loss(**r), DENSE),
    (lambda **r: nn.SmoothL1Loss(beta=0.2, **r), DENSE),
    (lambda **r: nn.HuberLoss(delta=0.2, **r), DENSE),
    (lambda **r: nn.BCELoss(weights(5, 1, 1), **r), DENSE),
    (lambda **r: nn.BCEWithLogitsLoss(weights(4, 1, 1, 1), pos_weight=weights(5, 1, 1), **r), DENSE),
    (lambda **r: nn.KLDivLoss(**r), DENSE),
    (lambda **r: nn.KLDivLoss(log_target=True, **r), DENSE),
    (lambda **r: nn.BernoulliNLLLoss(**r), DENSE),
    (lambda **r: nn.FocalLoss(alpha=0.25, **r), "coins"),
    (lambda **r: nn.FocalLoss(1.5, weights(5), **r), LABELS),
    (lambda **r: nn.NLLLoss(weights(5), ignore_index=1, **r), LABELS),
    (lambda **r: nn.CrossEntropyLoss(weights(5), ignore_index=1, label_smoothing=0.1, **r), LABELS),
    (lambda **r: nn.CrossEntropyLoss(weights(5), label_smoothing=0.1, **r), SOFT),
    (lambda **r: nn.MarginRankingLoss(0.1, **r), "pairs"),
    (lambda **r: nn.GaussianNLLLoss(full=True, **r), (4, 5, 3)),
    (lambda **r: nn.LaplaceNLLLoss(**r), (4, 1, 3, 6)),
]


def draw(rng, kind):
    """The input and what goes in beside it."""
    x = rng.uniform(0.05, 0.95, SHAPE)
    if kind == LABELS:
        return x, rng.integers(0, 5, (4, 3, 6))
    if kind == SOFT:
        return x, np.moveaxis(rng.dirichlet(np.ones(5), (4, 3, 6)), -1, 1)
    if kind == "coins":
        return x, rng.integers(0, 2, SHAPE)
    other = rng.uniform(0.05, 0.95, SHAPE)
    if kind == "pairs":
        return x, other, rng.choice([-1, 1], SHAPE)
    return (x, other) if kind == DENSE else (x, other, rng.uniform(0.5, 2, kind))


def lay(x, order):
    """A copy of x in the memory order, floats in float32."""
    x = x.astype(np.float32) if x.dtype.kind == "f" else x
    if order == "channels last" and x.ndim == 4:
        return np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    if order == "gaps":
        return np.repeat(x[..., None], 2, axis=-1)[..., 0]
    if order == "reversed":
        return np.ascontiguousarray(x[::-1, ..., ::-1])[::-1, ..., ::-1]
    return x


def as_tuple(gradients):
    return gradients if isinstance(gradients, tuple) else (gradients,)


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("order", ["C", "channels last", "gaps", "reversed"])
@pytest.mark.parametrize(("make", "kind"), LOSSES, ids=lambda value: repr(value()) if callable(value) else str(value))
def test_as_on_the_reference(make, kind, order, reduction):
    rng = np.random.default_rng(0)
    values = [lay(value, order) for value in draw(rng, kind)]
    criterion = make(reduction=reduction)
    twin = copy.deepcopy(criterion).double()
    loss = criterion(*values)
    dy = np.asarray(rng.standard_normal(loss.shape), np.float32)
    gradients = criterion.backward(dy)
    with nnk.use_backend("reference"):
        want = twin(*(value.astype(np.float64) if value.dtype.kind == "f" else value for value in values))
        expected = twin.backward(dy.astype(np.float64))
    np.testing.assert_allclose(loss, want, rtol=1e-5, atol=1e-5)
    assert loss.dtype == np.float32
    for ours, theirs in zip(as_tuple(gradients), as_tuple(expected), strict=True):
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize(("make", "kind"), LOSSES, ids=lambda value: repr(value()) if callable(value) else str(value))
def test_losses_behave_as_modules(make, kind):
    """train and eval return the loss, two forwards go back in reverse order, nothing is left behind."""
    criterion = make()
    assert criterion.eval() is criterion
    assert criterion.train() is criterion
    first, second = (
        [lay(value, "C") for value in draw(np.random.default_rng(seed), kind)] for seed in (0, 1)
    )
    single = []
    for values in (first, second):
        criterion(*values)
        single.append(criterion.backward())
    criterion(*first)
    criterion(*second)
    for want in reversed(single):
        for ours, theirs in zip(as_tuple(criterion.backward()), as_tuple(want), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(RuntimeError, match="has no forward to go back through"):
        criterion.backward()
    with nnk.no_grad():
        criterion(*first)
    with pytest.raises(RuntimeError, match="has no forward to go back through"):
        criterion.backward()
    assert repr(make()).startswith(type(criterion).__name__)
