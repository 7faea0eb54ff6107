import numpy as np
import pytest

from nnk import nn
from nnk.testing import gradcheck

SHAPES = [(), (7,), (3, 4), (2, 3, 4, 5), (0, 3)]
WEIGHTS = [((3, 4), ()), ((3, 4), (1,)), ((3, 4), (4,)), ((3, 4), (3, 1)), ((3, 4), (3, 4)), ((2, 3, 4, 5), (3, 1, 1))]
NAMES = ["BCELoss", "BCEWithLogitsLoss"]


def values(name, rng, shape):
    x = rng.uniform(0, 1, shape) if name == "BCELoss" else rng.normal(0, 3, shape)
    return np.asarray(x), np.asarray(rng.uniform(0, 1, shape))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_as_in_torch(same_as_torch, rng, name, shape, reduction):
    same_as_torch(name, (), {"reduction": reduction}, *values(name, rng, shape))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(("shape", "weight"), WEIGHTS, ids=str)
@pytest.mark.parametrize(("name", "argument"), [*((name, "weight") for name in NAMES), (NAMES[1], "pos_weight")])
def test_weights_as_in_torch(same_as_torch, rng, name, argument, shape, weight, reduction):
    weights = {argument: np.asarray(rng.uniform(0.5, 3, weight))}
    same_as_torch(name, (), {"reduction": reduction, **weights}, *values(name, rng, shape))


def test_both_weights_as_in_torch(same_as_torch, rng):
    weights = {"weight": rng.uniform(0.5, 3, (3, 1)), "pos_weight": rng.uniform(0.5, 3, 4)}
    same_as_torch("BCEWithLogitsLoss", (), weights, *values("BCEWithLogitsLoss", rng, (3, 4)))


def test_probabilities_of_0_and_1_as_in_torch(same_as_torch):
    p = np.array([0, 0, 1, 1, 1e-300, 1 - 1e-16, 0.5])
    same_as_torch("BCELoss", (), {"reduction": "none"}, p, np.array([0, 1.0, 0, 1, 1, 0, 0.5]))


def test_huge_logits_as_in_torch(same_as_torch):
    x = np.array([1e4, 1e4, -1e4, -1e4, 1e4, 800])
    same_as_torch("BCEWithLogitsLoss", (), {"reduction": "none"}, x, np.array([0, 1, 0, 1, 0.5, 1]))


@pytest.mark.parametrize(
    ("criterion", "x", "target", "loss", "slope"),
    [
        (nn.BCELoss(), 0.0, 1.0, 100, -1e12),
        (nn.BCELoss(), 1.0, 0.0, 100, 1e12),
        (nn.BCELoss(), 1e-10, 0.0, 1e-10, 1),
        (nn.BCEWithLogitsLoss(), 1e4, 0.0, 1e4, 1),
        (nn.BCEWithLogitsLoss(), 1e4, 1.0, 0, 0),
        (nn.BCEWithLogitsLoss(), -1e4, 1.0, 1e4, -1),
        (nn.BCEWithLogitsLoss(), -30.0, 0.0, 9.357623e-14, 9.357623e-14),
        (nn.BCEWithLogitsLoss(), 30.0, 1.0, 9.357623e-14, -9.357623e-14),
    ],
)
def test_hard_corners_on_the_cpu(criterion, x, target, loss, slope):
    assert criterion(np.float32(x), np.float32(target)) == pytest.approx(loss, rel=1e-6)
    assert criterion.backward() == pytest.approx(slope, rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_gradcheck(rng, name):
    x, target = values(name, rng, (4, 5))
    x = np.clip(x, 0.05 if name == "BCELoss" else -9, 0.95)
    assert gradcheck(getattr(nn, name)(rng.uniform(0.5, 2, 5)), x, target)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [bool, np.int64, np.uint8])
def test_labels_of_any_dtype(rng, name, dtype):
    x, target = np.float32(rng.uniform(0.1, 0.9, (3, 4))), rng.integers(0, 2, (3, 4))
    criterion = getattr(nn, name)()
    assert criterion(x, target.astype(dtype)) == criterion(x, target.astype(np.float32))


def test_weights_are_buffers_of_any_dtype(rng):
    criterion = nn.BCEWithLogitsLoss(np.ones(3), pos_weight=[2, 3, 4])
    assert list(criterion.state_dict()) == ["weight", "pos_weight"]
    loss = criterion(np.zeros((2, 3), np.float32), np.ones((2, 3), np.float32))
    assert loss.dtype == np.float32
    assert loss == pytest.approx(3 * np.log(2))


@pytest.mark.parametrize("value", [-0.1, 1.5, np.nan, -1e-30])
@pytest.mark.parametrize("name", ["BCELoss", "BernoulliNLLLoss"])
def test_probabilities_out_of_range(name, value):
    good, bad = np.float32([0.5, 0.5]), np.float32([0.5, value])
    with pytest.raises(ValueError, match=r"input holds .*, expected probabilities from 0 to 1"):
        getattr(nn, name)()(bad, good)
    with pytest.raises(ValueError, match=r"target holds .*, expected probabilities from 0 to 1"):
        getattr(nn, name)()(good, bad)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("x", "target"), [((2, 1), (2,)), ((2, 3), (3,)), ((), (1,))])
def test_targets_do_not_broadcast(reference, name, x, target):
    with pytest.raises(ValueError, match="target has shape"):
        getattr(nn, name)()(np.zeros(x), np.zeros(target))


@pytest.mark.parametrize("argument", ["weight", "pos_weight"])
@pytest.mark.parametrize("shape", [(2,), (4, 2, 3), (1, 2, 3)])
def test_weights_that_do_not_fit(reference, argument, shape):
    with pytest.raises(ValueError, match=rf"{argument} has shape .*, which does not broadcast to .*, \(2, 3\)"):
        nn.BCEWithLogitsLoss(**{argument: np.ones(shape)})(np.zeros((2, 3)), np.zeros((2, 3)))


@pytest.mark.parametrize("name", NAMES)
def test_a_target_of_another_float_dtype(name):
    with pytest.raises(TypeError, match="target has dtype float64, expected the input's, float32"):
        getattr(nn, name)()(np.zeros(2, np.float32), np.zeros(2))
