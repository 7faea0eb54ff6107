import numpy as np
import pytest

from nnk import nn
from nnk.testing import gradcheck


def check(rng, x1, x2, target, **options):
    """Compare loss and both gradients with PyTorch's."""
    torch = pytest.importorskip("torch")
    ours, theirs = nn.MarginRankingLoss(**options), torch.nn.MarginRankingLoss(**options)
    leaves = [torch.tensor(x).requires_grad_() for x in (x1, x2)]
    loss, expected = ours(x1, x2, target), theirs(*leaves, torch.tensor(target))
    np.testing.assert_allclose(loss, expected.detach(), rtol=1e-12)
    dy = np.asarray(rng.standard_normal(loss.shape))
    expected.backward(torch.tensor(dy))
    gradients = ours.backward(dy)
    assert len(gradients) == 2
    for got, leaf in zip(gradients, leaves):
        np.testing.assert_allclose(got, leaf.grad, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("margin", [0.0, 0.7, -0.2])
@pytest.mark.parametrize(
    "shapes", [[(7,)] * 3, [()] * 3, [(0, 2)] * 3, [(3, 4)] * 3, [(3, 1), (1, 4), (3, 4)], [(3, 4), (3, 4), (1, 1)]]
)
def test_as_in_torch(reference, rng, shapes, margin, reduction):
    x1, x2 = (np.asarray(rng.standard_normal(shape)) for shape in shapes[:2])
    target = np.asarray(rng.choice([-1.0, 1.0], shapes[2]))
    check(rng, x1, x2, target, margin=margin, reduction=reduction)


@pytest.mark.parametrize("margin", [0.0, 1.0])
def test_on_the_margin_as_in_torch(reference, rng, margin):
    x1 = np.array([0, 1.0, -1, 2, 1, 1e4, -1e4])
    for sign in (1.0, -1.0):
        check(rng, x1, np.zeros(7), np.full(7, sign), margin=margin, reduction="none")


def test_on_the_margin_on_the_cpu():
    criterion = nn.MarginRankingLoss(margin=1.0, reduction="sum")
    assert criterion(np.float32([0, 1, 2, 1e4, -1e4]), np.zeros(5, np.float32), np.ones(5, np.int8)) == 1e4 + 2
    dx1, dx2 = criterion.backward()
    assert dx1.tolist() == [-1, -1, 0, 0, -1]
    assert dx2.tolist() == [1, 1, 0, 0, 1]


def test_gradcheck(rng):
    x1, x2 = rng.standard_normal((2, 4, 5))
    assert gradcheck(nn.MarginRankingLoss(0.5), x1, x2, rng.choice([-1.0, 1.0], (4, 5)), wrt=(0, 1))
    assert gradcheck(nn.MarginRankingLoss(0.5, reduction="none"), x1[:, :1], x2[:1], np.ones((4, 5)), wrt=(0, 1))


def test_input_grad_false_leaves_both_out():
    criterion = nn.MarginRankingLoss()
    criterion(*np.zeros((3, 4), np.float32))
    assert criterion.backward(input_grad=False) is None


def test_errors(reference):
    with pytest.raises(ValueError, match=r"input1 has shape \(1, 3\), input2 \(2, 1\) and target \(3,\)"):
        nn.MarginRankingLoss()(np.zeros((1, 3)), np.zeros((2, 1)), np.zeros(3))
    with pytest.raises(ValueError, match="the shapes do not broadcast: input1"):
        nn.MarginRankingLoss()(np.zeros(3), np.zeros(2), np.zeros(3))
    with pytest.raises(TypeError, match="input2 has dtype float32, expected the input's, float64"):
        nn.MarginRankingLoss()(np.zeros(3), np.zeros(3, np.float32), np.zeros(3))
