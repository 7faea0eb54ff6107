import numpy as np
import pytest

import nnk
from nnk import nn, optim
from nnk.train import Callback, Trainer


def trainer(rng_seed=0, lr=0.1, **options):
    nnk.manual_seed(rng_seed)
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3))
    return Trainer(model, optimizer=optim.SGD(model.parameters(), lr, momentum=0.9), seed=1, **options)


@pytest.fixture
def data(rng):
    return rng.standard_normal((44, 5)).astype(np.float32), rng.integers(0, 3, 44)


def test_small_batches_make_the_step_of_a_large_one(data):
    large, small = trainer(batch_size=12), trainer(batch_size=4, accumulate=3)
    x, y = data[0][:36], data[1][:36]
    large.fit((x, y), epochs=3)
    small.fit((x, y), epochs=3)
    for a, b in zip(large.model.parameters(), small.model.parameters()):
        np.testing.assert_allclose(a.data, b.data, rtol=1e-4, atol=1e-6)


class Unknown:
    """Batches of which nobody says how many there are."""

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)


@pytest.mark.parametrize("wrap", [list, Unknown])
def test_what_is_left_at_the_end_makes_a_step_with_its_mean_gradient(data, wrap):
    x, y = data
    cuts = [slice(0, 4), slice(4, 8), slice(8, 12), slice(12, 16), slice(16, 17)]  # three, and two of unequal size
    small, large = trainer(accumulate=3), trainer()
    updates = []

    class Updates(Callback):
        def update_end(self, trainer):
            updates.append(trainer.batch)

    small.callbacks.append(Updates())
    small.fit(wrap([(x[cut], y[cut]) for cut in cuts]))
    large.fit([(x[:12], y[:12]), (x[12:17], y[12:17])])
    assert len(updates) == 2
    for a, b in zip(small.model.parameters(), large.model.parameters()):
        np.testing.assert_allclose(a.data, b.data, rtol=1e-5, atol=1e-6)


def test_a_run_cut_within_a_group_goes_on_bit_for_bit(data, tmp_path):
    class Cut(Callback):
        def batch_end(self, trainer, samples):
            if (trainer.epoch, trainer.batch) == (1, 5):
                trainer.save()
                raise RuntimeError("cut")

    whole = trainer(batch_size=4, accumulate=3)
    whole.fit(data, epochs=3)
    with pytest.raises(RuntimeError, match="cut"):
        trainer(batch_size=4, accumulate=3, out=tmp_path / "run", callbacks=[Cut()]).fit(data, epochs=3)
    again = trainer(rng_seed=9, batch_size=4, accumulate=3, out=tmp_path / "run")
    again.fit(data, epochs=3, resume=True)
    for a, b in zip(whole.model.parameters(), again.model.parameters()):
        np.testing.assert_array_equal(a.data, b.data)


def test_bad_number():
    with pytest.raises(ValueError, match="accumulate is 0"):
        trainer(accumulate=0)
