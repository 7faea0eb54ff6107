import numpy as np
import pytest

from nnk import nn
from nnk.testing import gradcheck

LOSSES = [
    ("MSELoss", {}),
    ("L1Loss", {}),
    ("SmoothL1Loss", {}),
    ("SmoothL1Loss", {"beta": 0.3}),
    ("SmoothL1Loss", {"beta": 0.0}),
    ("HuberLoss", {}),
    ("HuberLoss", {"delta": 2.5}),
]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(("name", "options"), LOSSES, ids=str)
@pytest.mark.parametrize("shape", [(), (7,), (2, 3, 4, 5), (0, 3)], ids=str)
def test_as_in_torch(same_as_torch, rng, name, options, shape, reduction):
    x, target = (np.asarray(rng.normal(0, 2, shape)) for _ in range(2))
    same_as_torch(name, (), {"reduction": reduction, **options}, x, target)


@pytest.mark.filterwarnings("ignore:target has shape", "ignore:Using a target size")
@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize(("name", "options"), LOSSES, ids=str)
@pytest.mark.parametrize(("shape", "target"), [((3, 1), (1, 4)), ((4,), (3, 4)), ((3, 4), ()), ((), (2,))], ids=str)
def test_shapes_that_broadcast_as_in_torch(same_as_torch, rng, name, options, shape, target, reduction):
    x, target = (np.asarray(rng.normal(0, 2, s)) for s in (shape, target))
    same_as_torch(name, (), {"reduction": reduction, **options}, x, target)


KINKS = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, -2.0, np.nextafter(1, 0), np.nextafter(1, 2), 1e4, -1e4, np.inf, -np.inf]


@pytest.mark.parametrize("scale", [1.0, 0.5, 2.0])
@pytest.mark.parametrize("name", ["MSELoss", "L1Loss", "SmoothL1Loss", "HuberLoss"])
def test_every_kink_value_by_value_as_in_torch(same_as_torch, name, scale):
    options = {"SmoothL1Loss": {"beta": scale}, "HuberLoss": {"delta": scale}}.get(name, {})
    same_as_torch(name, (), {"reduction": "none", **options}, np.array(KINKS), np.zeros(len(KINKS)))


@pytest.mark.parametrize(
    ("criterion", "slopes"),
    [
        (nn.L1Loss(reduction="sum"), [-1, -1, 0, 1, 1]),
        (nn.SmoothL1Loss(reduction="sum", beta=2.0), [-1, -0.5, 0, 0.5, 1]),
        (nn.HuberLoss(reduction="sum", delta=2.0), [-2, -1, 0, 1, 2]),
        (nn.MSELoss(reduction="sum"), [-4, -2, 0, 2, 4]),
    ],
)
def test_slopes_on_the_cpu(criterion, slopes):
    criterion(np.float32([-2, -1, 0, 1, 2]), np.zeros(5, np.float32))
    assert criterion.backward().tolist() == slopes


@pytest.mark.parametrize(("name", "options"), LOSSES, ids=str)
def test_gradcheck(rng, name, options):
    assert gradcheck(getattr(nn, name)(**options), rng.standard_normal((5, 4)), rng.standard_normal((5, 4)))


def test_a_target_that_broadcasts_is_warned_of(reference):
    with pytest.warns(UserWarning, match=r"shape \(3,\) and the input \(3, 1\): both are broadcast to \(3, 3\)"):
        nn.MSELoss()(np.zeros((3, 1)), np.zeros(3))


def test_shapes_that_do_not_broadcast(reference):
    with pytest.raises(ValueError, match=r"the shapes do not broadcast: input \(2, 3\), target \(2,\)"):
        nn.L1Loss()(np.zeros((2, 3)), np.zeros(2))


@pytest.mark.parametrize("dtype", [np.float64, np.int64, bool])
def test_targets_of_another_dtype(dtype):
    with pytest.raises(TypeError, match=rf"target has dtype {np.dtype(dtype)}, expected the input's, float32"):
        nn.MSELoss()(np.zeros(3, np.float32), np.zeros(3, dtype))


def test_an_input_of_another_dtype():
    with pytest.raises(TypeError, match="the input has dtype float64, expected float32"):
        nn.MSELoss()(np.zeros(3), np.zeros(3))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.SmoothL1Loss(beta=-1.0), "beta is -1.0, expected at least 0"),
        (lambda: nn.HuberLoss(delta=0.0), "delta is 0.0, expected more than 0"),
        (lambda: nn.MSELoss(reduction="batchmean"), "reduction is 'batchmean', expected 'none', 'mean' or 'sum'"),
        (lambda: nn.L1Loss(reduce=True), "reduce=True is not supported"),
        (lambda: nn.L1Loss(size_average=False), "size_average=False is not supported"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
