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
    assert found.plot().axes[0].get_xscale() == "log"


def test_leaves_no_trace(data):
    tried = trainer()
    tried.fit(data)
    fresh = trainer()
    fresh.fit(data)
    state = nnk.random.get_state()
    lr_range_test(tried, data, steps=20)
    nnk.random.set_state(state)
    assert tried.optimizer.param_groups[0]["lr"] == 0.05
    tried.fit(data, epochs=2)
    nnk.random.set_state(state)
    fresh.fit(data, epochs=2)
    for name, array in fresh.model.state_dict().items():
        np.testing.assert_array_equal(tried.model.state_dict()[name], array)


def test_bad_arguments(data):
    with pytest.raises(ValueError, match="expected 0 < start < end"):
        lr_range_test(trainer(), data, start=1, end=0.1)
    with pytest.raises(ValueError, match="train has no batch"):
        lr_range_test(trainer(), [])
    with pytest.raises(ValueError, match="begin lower"):
        _ = LRRange((1.0, 2.0), (1.0, 5.0)).suggestion
