import numpy as np
import pytest

from nnk import nn
from nnk.testing import gradcheck

pytestmark = pytest.mark.filterwarnings("ignore:reduction. 'mean' divides")


@pytest.mark.parametrize("reduction", ["mean", "sum", "none", "batchmean"])
@pytest.mark.parametrize("log_target", [False, True])
@pytest.mark.parametrize(
    ("shape", "target"), [((5, 4), (5, 4)), ((), ()), ((4,), (3, 4)), ((3, 1), (4,)), ((2, 3, 4), (4,))]
)
def test_as_in_torch(same_as_torch, rng, shape, target, log_target, reduction):
    x, t = np.log(rng.uniform(0.01, 1, shape)), rng.uniform(0.01, 1, target)
    t = np.asarray(np.log(t) if log_target else t)
    same_as_torch("KLDivLoss", (), {"reduction": reduction, "log_target": log_target}, np.asarray(x), t)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_empty_as_in_torch(same_as_torch, reduction):
    same_as_torch("KLDivLoss", (), {"reduction": reduction}, np.zeros((0, 3)), np.zeros((0, 3)))


def test_probabilities_of_0_as_in_torch(same_as_torch):
    x = np.array([0, -1e4, -1e4, -np.inf, -1e4])
    same_as_torch("KLDivLoss", (), {"reduction": "none"}, x, np.array([0, 0, 0.5, 0.5, 1e-300]))


def test_log_probabilities_of_minus_1e4_as_in_torch(same_as_torch):
    x = np.array([0, -1e4, -1e4, -1.0])
    same_as_torch("KLDivLoss", (), {"reduction": "none", "log_target": True}, x, np.array([-1e4, -1e4, 0.0, -1e4]))


def test_hard_corner_on_the_cpu():
    criterion = nn.KLDivLoss(reduction="none")
    loss = criterion(np.float32([-1e4, -1e4, 0]), np.float32([0, 0.5, 1e-40]))
    np.testing.assert_allclose(loss, [0, 0.5 * np.log(0.5) + 5e3, 1e-40 * np.log(1e-40)], rtol=1e-6, atol=1e-43)
    assert criterion.backward(np.ones(3, np.float32))[:2].tolist() == [0, -0.5]


def test_a_distribution_has_no_divergence_from_itself(rng):
    p = rng.dirichlet(np.ones(6), 5).astype(np.float32)
    assert abs(nn.KLDivLoss(reduction="batchmean")(np.log(p), p)) < 1e-6


@pytest.mark.parametrize("log_target", [False, True])
def test_gradcheck(rng, log_target):
    x, target = rng.dirichlet(np.ones(4), (2, 5))
    criterion = nn.KLDivLoss(reduction="batchmean", log_target=log_target)
    assert gradcheck(criterion, np.log(x), np.log(target) if log_target else target)


def test_errors(reference):
    with pytest.raises(ValueError, match="the shapes do not broadcast"):
        nn.KLDivLoss()(np.zeros((2, 3)), np.zeros(2))
    with pytest.raises(TypeError, match="target has dtype int64"):
        nn.KLDivLoss()(np.zeros((2, 3)), np.zeros((2, 3), np.int64))
    with pytest.raises(ValueError, match="reduction is 'max', expected 'none', 'mean', 'batchmean' or 'sum'"):
        nn.KLDivLoss(reduction="max")
