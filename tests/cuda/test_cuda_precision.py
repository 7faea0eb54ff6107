"""Mixed precision, in the simulator, on small images."""

import numpy as np
import pytest

import nnk
from nnk import nn, optim
from nnk.train import Trainer, loss_scale
from nnk.train.precision import MixedPrecision


def network():
    nnk.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(2, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.PReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 3),
    )


def batch():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 2, 4, 4)).astype(np.float32)
    return x, rng.integers(0, 3, 4)


def train(precision, steps=3, **options):
    model = network()
    trainer = Trainer(model, optimizer=optim.SGD(model.parameters(), 0.1, momentum=0.9), precision=precision, **options)
    x, y = batch()
    with nnk.use_backend("cuda"):
        losses = [row["loss"] for row in trainer.fit([(x, y)] * steps, epochs=1)]
    return trainer, losses[-1]


@pytest.mark.usefixtures("simulator")
@pytest.mark.parametrize(("precision", "near"), [("bf16", 2e-2), ("fp16", 3e-3)])
def test_cuda_a_half_trains_as_float32_does(precision, near):
    if precision == "bf16":
        pytest.importorskip("ml_dtypes")
    plain, loss = train(None)
    halved, half_loss = train(precision, clip_norm=5.0)
    assert half_loss == pytest.approx(loss, abs=near)
    for want, got in zip(plain.model.parameters(), halved.model.parameters()):
        assert got.dtype == np.float32
        assert got.grad.dtype == np.float32
        np.testing.assert_allclose(got.data, want.data, atol=near)
    assert [row.get("skipped") for row in halved.history] == [0 if precision == "fp16" else None]


@pytest.mark.usefixtures("simulator")
def test_cuda_an_overflow_skips_the_update():
    model = network()
    before = [parameter.data.copy() for parameter in model.parameters()]
    optimizer = optim.Adam(model.parameters())
    trainer = Trainer(model, optimizer=optimizer, precision="fp16")
    trainer.precision.loss_scale.scale.fill(2.0**40)
    with nnk.use_backend("cuda"):
        row = trainer.fit([batch()], epochs=1)[-1]
        assert row["skipped"] == 1
        assert trainer.precision.state_dict() == {"scale": 2.0**39, "good": 0, "skipped": 1}
        for old, parameter in zip(before, model.parameters()):
            np.testing.assert_array_equal(parameter.data, old)
        trainer.precision.load_state_dict({"scale": 2.0**16, "good": 0, "skipped": 1})
        trainer.fit([batch()], epochs=1)
    for old, parameter in zip(before, model.parameters()):
        state = optimizer.state[parameter]
        assert state["step"] == 1
        # The first update of all: Adam's moves every weight by its rate.
        g = state["exp_avg"] * 10
        np.testing.assert_allclose(old - parameter.data, 1e-3 * g / (np.abs(g) + 1e-8), rtol=1e-3, atol=1e-7)


def stepped(scale, gradient):
    parameter = nn.Parameter(np.zeros(2, np.float32))
    parameter.grad = np.full(2, gradient, np.float32)
    with nnk.use_backend("cuda"):
        scale.update(optim.SGD([parameter], 1.0), {})
    return parameter.data


@pytest.mark.usefixtures("simulator")
def test_cuda_the_scale_moves_with_the_gradients(monkeypatch):
    monkeypatch.setattr(loss_scale, "PATIENCE", 3)
    scale = MixedPrecision("fp16").loss_scale
    first = 2.0**16
    np.testing.assert_array_equal(stepped(scale, first), [-1, -1])
    np.testing.assert_array_equal(stepped(scale, np.inf), [0, 0])
    np.testing.assert_array_equal(stepped(scale, np.nan), [0, 0])
    assert scale.state_dict() == {"scale": first / 4, "good": 0, "skipped": 2}
    for good in (1, 2):
        stepped(scale, 1.0)
        assert scale.state_dict() == {"scale": first / 4, "good": good, "skipped": 2}
    stepped(scale, 1.0)
    assert scale.state_dict() == {"scale": first / 2, "good": 0, "skipped": 2}
    other = MixedPrecision("fp16")
    other.load_state_dict(scale.state_dict())
    assert other.state_dict() == scale.state_dict()


@pytest.mark.usefixtures("simulator")
def test_cuda_the_scale_has_bounds(monkeypatch):
    monkeypatch.setattr(loss_scale, "PATIENCE", 1)
    scale = MixedPrecision("fp16").loss_scale
    for start, gradient, end in ((1.0, np.nan, 1.0), (2.0**125, 0.0, 2.0**126), (2.0**126, 0.0, 2.0**126)):
        scale.load_state_dict({"scale": start, "good": 0, "skipped": 0})
        stepped(scale, gradient)
        assert scale.state_dict()["scale"] == end


@pytest.mark.parametrize("clipping", [{"clip_norm": 0.5}, {"clip_value": 0.25}, {}])
def test_cuda_scaled_gradients_are_clipped_as_others(clipping):
    moved = []
    for scale in (1.0, 1024.0):
        parameter = nn.Parameter(np.zeros(3, np.float32))
        parameter.grad = np.array([1.0, -0.125, 0.5], np.float32) * np.float32(scale)
        optim.SGD([parameter], 1.0).step(grad_scale=1 / scale, **clipping)
        moved.append(parameter.data)
    np.testing.assert_allclose(moved[1], moved[0], rtol=1e-6)


def test_cuda_mixed_precision_is_refused_where_it_cannot_be():
    model = network()
    with pytest.raises(ValueError, match="precision is 'half', expected one of None, 'bf16', 'fp16'"):
        Trainer(model, precision="half")
    with pytest.raises(ValueError, match=r"0\.weight is on the CPU.*model.to\('cuda'\)"):
        Trainer(model, precision="fp16").fit([batch()])
    with pytest.raises(ValueError, match=r"0\.weight is float64, expected float32"):
        Trainer(model.double(), precision="fp16").fit([batch()])
