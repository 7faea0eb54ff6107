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


@pytest.mark.parametrize("length_is_known", [True, False])
def test_what_is_left_at_the_end_makes_a_step(data, length_is_known):
    batches = [(data[0][i : i + 4], data[1][i : i + 4]) for i in range(0, 44, 4)]  # 11: three groups of 3, one of 2

    class Unknown:
        def __iter__(self):
            return iter(batches)

    run = trainer(accumulate=3, lr=0.5)
    steps = []
    step = run.optimizer.step
    run.optimizer.step = lambda: (steps.append([p.grad.copy() for p in run.model.parameters()]), step())
    run.fit(batches if length_is_known else Unknown())
    assert len(steps) == 4
    one = trainer(lr=0.5)
    one.model.load_state_dict(run.model.state_dict())


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
