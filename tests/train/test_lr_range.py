import numpy as np
import pytest

import nnk
from nnk import nn, optim
from nnk.train import LRRange, Trainer, lr_range_test


@pytest.fixture
def data(rng):
    x = rng.standard_normal((64, 4)).astype(np.float32)
    return x, (x @ rng.standard_normal((4, 3))).argmax(1)


def trainer():
    nnk.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.BatchNorm1d(16), nn.Dropout(0.1), nn.Linear(16, 3))
    return Trainer(model, optimizer=optim.SGD(model.parameters(), 0.05, momentum=0.9), batch_size=16, seed=1)


def test_the_loss_falls_and_then_diverges(data):
    found = lr_range_test(trainer(), data, start=1e-4, end=1e4, steps=120)
    assert len(found.rates) < 120
    np.testing.assert_allclose(np.diff(np.log(found.rates)), np.log(1e8) / 119, rtol=1e-6)
    assert min(found.losses) < 0.9 * found.losses[0]
    assert 1e-3 < found.suggestion < 10
    assert found.suggestion < found.rates[int(np.argmin(found.losses))] * 1.0001
    pytest.importorskip("matplotlib")
    axes = found.plot().axes[0]
    assert axes.get_xscale() == "log"
    assert [text.get_text() for text in axes.get_legend().texts] == [f"falls fastest at {found.suggestion:.2g}"]


def test_leaves_no_trace(data):
    tried = trainer()
    tried.fit(data)
    tried.model.eval()
    fresh = trainer()
    fresh.fit(data)
    state = nnk.random.get_state()
    lr_range_test(tried, data, steps=20)
    nnk.random.set_state(state)
    assert tried.optimizer.param_groups[0]["lr"] == 0.05
    assert not any(module.training for module in tried.model.modules())
    tried.fit(data, epochs=2)
    nnk.random.set_state(state)
    fresh.fit(data, epochs=2)
    for name, array in fresh.model.state_dict().items():
        np.testing.assert_array_equal(tried.model.state_dict()[name], array)


def test_noise_before_the_fall_suggests_nothing(rng):
    # Flat, then down, then up; neighbours in the noise fall by more than on the way down.
    rates = np.geomspace(1e-6, 1, 200)
    clean = 2 - 1.5 / (1 + np.exp(-3 * np.log(rates / 1e-2))) + 40 * rates**2
    for _ in range(5):
        losses = clean + 0.1 * rng.standard_normal(200)
        assert np.diff(losses)[:50].min() < np.diff(clean).min()
        assert 3e-3 < LRRange(tuple(rates), tuple(losses)).suggestion < 3e-2


def test_a_loss_that_does_not_fall_suggests_nothing():
    found = LRRange(tuple(np.geomspace(1e-3, 1, 30)), tuple(np.linspace(1, 3, 30)))
    with pytest.raises(ValueError, match="the loss did not fall in 30 steps"):
        _ = found.suggestion
    pytest.importorskip("matplotlib")
    assert found.plot().axes[0].get_legend() is None


def test_updates_are_clipped_as_in_training(data):
    run = trainer()
    clipped = Trainer(run.model, optimizer=run.optimizer, batch_size=16, seed=1, clip_norm=0)
    assert len(lr_range_test(run, data, start=1e-1, end=1e4, steps=30).losses) < 30
    assert len(lr_range_test(clipped, data, start=1e-1, end=1e4, steps=30).losses) == 30  # nothing ever moves


def test_bad_arguments(data):
    with pytest.raises(ValueError, match="expected 0 < start < end"):
        lr_range_test(trainer(), data, end=np.inf)
    with pytest.raises(ValueError, match="train has no batch in pass 2: an iterator can be used only once"):
        lr_range_test(trainer(), iter([(data[0][:8], data[1][:8])]))
    with pytest.raises(ValueError, match="expected 0 < start < end"):
        lr_range_test(trainer(), data, start=1, end=0.1)
    with pytest.raises(ValueError, match="train has no batch"):
        lr_range_test(trainer(), [])
    with pytest.raises(ValueError, match="begin lower"):
        _ = LRRange((1.0, 2.0), (1.0, 5.0)).suggestion
