import numpy as np
import pytest

from nnk import nn
from nnk.testing import gradcheck


@pytest.fixture
def torch_focal(monkeypatch):
    """The focal loss written with PyTorch's cross-entropies, under the name that nnk gives it."""
    torch = pytest.importorskip("torch")
    F = torch.nn.functional

    class FocalLoss(torch.nn.Module):
        def __init__(self, gamma=2, alpha=None, reduction="mean"):
            super().__init__()
            self.gamma, self.reduction = gamma, reduction
            if torch.is_tensor(alpha):
                self.register_buffer("alpha", alpha)
            else:
                self.alpha = alpha

        def forward(self, x, target):
            if target.shape == x.shape:
                target = target.to(x.dtype)
                losses = F.binary_cross_entropy_with_logits(x, target, reduction="none")
                alpha = 1 if self.alpha is None else self.alpha * target + (1 - self.alpha) * (1 - target)
            else:
                losses = F.cross_entropy(x, target, reduction="none")
                alpha = 1 if self.alpha is None else self.alpha[target]
            losses = alpha * (1 - torch.exp(-losses)) ** self.gamma * losses
            return losses if self.reduction == "none" else getattr(losses, self.reduction)()

    monkeypatch.setattr(torch.nn, "FocalLoss", FocalLoss, raising=False)


OPTIONS = [{}, {"alpha": 0.25}, {"gamma": 0}, {"gamma": 0.5, "alpha": 0.9}, {"gamma": 5.0}]
LABELLED = [((4,), ()), ((5, 4), (5,)), ((2, 4, 3), (2, 3)), ((2, 4, 3, 2), (2, 3, 2)), ((0, 4), (0,))]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("shape", [(), (7,), (3, 4), (2, 3, 4, 5), (0, 3)], ids=str)
def test_binary_is_the_formula(same_as_torch, torch_focal, rng, shape, options, reduction):
    x, target = np.asarray(rng.normal(0, 2, shape)), np.asarray(rng.integers(0, 2, shape).astype(float))
    same_as_torch("FocalLoss", (), {"reduction": reduction, **options}, x, target)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("gamma", [0, 0.5, 2, 5.0])
@pytest.mark.parametrize(("shape", "target"), LABELLED)
def test_multi_class_is_the_formula(same_as_torch, torch_focal, rng, shape, target, gamma, balanced, reduction):
    alpha = {"alpha": rng.uniform(0.2, 2, 4)} if balanced else {}
    labels = np.asarray(rng.integers(0, 4, target))
    same_as_torch("FocalLoss", (gamma,), {"reduction": reduction, **alpha}, np.asarray(rng.normal(0, 2, shape)), labels)


def test_gamma_0_is_cross_entropy(rng):
    x, labels = rng.standard_normal((6, 5)).astype(np.float32), rng.integers(0, 5, 6)
    weight = rng.uniform(0.5, 2, 5).astype(np.float32)
    focal, plain = nn.FocalLoss(0, weight, "none"), nn.CrossEntropyLoss(weight, reduction="none")
    np.testing.assert_allclose(focal(x, labels), plain(x, labels), rtol=1e-5, atol=1e-6)
    dy = rng.standard_normal(6).astype(np.float32)
    np.testing.assert_allclose(focal.backward(dy), plain.backward(dy), rtol=1e-5, atol=1e-6)
    target = rng.integers(0, 2, (6, 5))
    focal, plain = nn.FocalLoss(0), nn.BCEWithLogitsLoss()
    np.testing.assert_allclose(focal(x, target), plain(x, target), rtol=1e-6)
    np.testing.assert_allclose(focal.backward(), plain.backward(), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("gamma", [0, 0.5, 2])
def test_logits_of_1e4_on_the_cpu(gamma):
    """Where the truth has no chance the loss is the cross-entropy; where it is certain there is none."""
    criterion = nn.FocalLoss(gamma, reduction="none")
    x = np.float32([1e4, 1e4, -1e4, -1e4])
    assert criterion(x, np.array([0, 1, 0, 1])).tolist() == [1e4, 0, 0, 1e4]
    assert criterion.backward(np.ones(4, np.float32)).tolist() == [1, 0, 0, -1]
    x = np.float32([[1e4, 0, -1e4], [1e4, 0, -1e4], [-1e4, -1e4, -1e4]])
    loss = criterion(x, np.array([0, 2, 1]))
    np.testing.assert_allclose(loss, [0, 2e4, (2 / 3) ** gamma * np.log(3)], rtol=1e-6)
    dx = criterion.backward(np.ones(3, np.float32))
    np.testing.assert_allclose(dx[:2], [[0, 0, 0], [1, 0, -1]], atol=1e-7)
    assert np.isfinite(dx).all()


@pytest.mark.parametrize("gamma", [0, 0.5, 2])
def test_gradcheck(rng, gamma):
    x = rng.standard_normal((5, 4))
    assert gradcheck(nn.FocalLoss(gamma, 0.3), x, rng.integers(0, 2, (5, 4)))
    assert gradcheck(nn.FocalLoss(gamma, rng.uniform(0.2, 1, 4), "none"), x, rng.integers(0, 4, 5))


def test_labels_of_any_dtype(rng):
    x, target = rng.standard_normal((3, 4)).astype(np.float32), rng.integers(0, 2, (3, 4))
    losses = {float(nn.FocalLoss()(x, target.astype(dtype))) for dtype in (bool, np.int8, np.uint64, np.float32)}
    assert len(losses) == 1


def test_an_array_of_alphas_is_a_buffer():
    assert list(nn.FocalLoss(alpha=[1, 2, 3]).state_dict()) == ["alpha"]
    assert not nn.FocalLoss(alpha=0.5).state_dict()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gamma": -1}, "gamma is -1, expected at least 0"),
        ({"alpha": 1.5}, "alpha is 1.5, expected 0 <= alpha <= 1"),
        ({"alpha": np.ones((2, 2))}, r"alpha has shape \(2, 2\), expected a number or an array"),
        ({"reduction": "batchmean"}, "reduction is 'batchmean'"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        nn.FocalLoss(**options)


@pytest.mark.parametrize(
    ("alpha", "target", "error", "message"),
    [
        (None, np.full((2, 3), 0.5), ValueError, "target holds 0.5, expected 0 and 1"),
        (None, np.full((2, 3), 2), ValueError, "target holds 2.0, expected 0 and 1"),
        (None, np.array([0, 3]), ValueError, "target holds the label 3, expected labels from 0 to 2$"),
        (None, np.array([0, -100]), ValueError, "target holds the label -100"),
        (None, np.zeros(2), TypeError, "target has dtype float64, expected class labels"),
        (None, np.zeros(3, np.int64), ValueError, r"target has shape \(3,\), expected \(2,\)"),
        (0.5, np.array([0, 1]), ValueError, "alpha is 0.5, expected an array, one value for each class"),
        (np.ones(2), np.array([0, 1]), ValueError, r"alpha has shape \(2,\), expected \(3,\)"),
        (np.ones(3), np.zeros((2, 3)), ValueError, r"alpha has shape \(3,\), expected a number for binary targets"),
    ],
)
def test_bad_targets(reference, alpha, target, error, message):
    with pytest.raises(error, match=message):
        nn.FocalLoss(alpha=alpha)(np.zeros((2, 3)), target)
