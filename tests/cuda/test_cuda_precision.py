"""Mixed precision: in the simulator, on small images; its bookkeeping without it."""

import numpy as np
import pytest

import nnk
from nnk import nn, optim
from nnk.train import Trainer
from nnk.train.precision import FIRST_SCALE, PATIENCE, MixedPrecision


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
    assert halved.precision.skipped == 0


@pytest.mark.usefixtures("simulator")
def test_cuda_an_overflow_skips_the_update():
    model = network()
    before = [parameter.data.copy() for parameter in model.parameters()]
    trainer = Trainer(model, optimizer=optim.SGD(model.parameters(), 0.1), precision="fp16")
    trainer.precision.scale = 2.0**40
    with nnk.use_backend("cuda"):
        row = trainer.fit([batch()], epochs=1)[-1]
    assert row["skipped"] == trainer.precision.skipped == 1
    assert trainer.precision.scale == 2.0**39
    for old, parameter in zip(before, model.parameters()):
        np.testing.assert_array_equal(parameter.data, old)


def stepped(scaler, gradient):
    parameter = nn.Parameter(np.zeros(2, np.float32))
    parameter.grad = np.full(2, gradient, np.float32)
    scaler.update(optim.SGD([parameter], 1.0), {})
    return parameter.data


def test_cuda_the_scale_moves_with_the_gradients():
    scaler = MixedPrecision("fp16")
    np.testing.assert_array_equal(stepped(scaler, FIRST_SCALE), [-1, -1])
    np.testing.assert_array_equal(stepped(scaler, np.inf), [0, 0])
    np.testing.assert_array_equal(stepped(scaler, np.nan), [0, 0])
    assert (scaler.scale, scaler.good, scaler.skipped) == (FIRST_SCALE / 4, 0, 2)
    scaler.good = PATIENCE - 1
    stepped(scaler, 1.0)
    assert (scaler.scale, scaler.good) == (FIRST_SCALE / 2, 0)
    other = MixedPrecision("fp16")
    other.load_state_dict(scaler.state_dict())
    assert other.state_dict() == scaler.state_dict()


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
    with pytest.raises(ValueError, match="graph is True with precision 'fp16'"):
        Trainer(model, precision="fp16", graph=True)
    with pytest.raises(ValueError, match=r"0\.weight is on the CPU.*model.to\('cuda'\)"):
        Trainer(model, precision="fp16").fit([batch()])
    with pytest.raises(ValueError, match=r"0\.weight is float64, expected float32"):
        Trainer(model.double(), precision="fp16").fit([batch()])
