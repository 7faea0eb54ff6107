import numpy as np
import pytest

import nnk
from nnk import nn, optim
from nnk.train import EarlyStopping, Trainer


def trainer(callbacks, lr=0.05, **options):
    nnk.manual_seed(0)
    model = nn.Linear(4, 2)
    return Trainer(model, optimizer=optim.SGD(model.parameters(), lr), seed=1, callbacks=callbacks, **options)


@pytest.fixture
def data(rng):
    """Labels that are noise: what is learnt does not help on other samples."""
    return [(rng.standard_normal((24, 4)).astype(np.float32), rng.integers(0, 2, 24)) for _ in range(2)]


def test_stops_and_restores_the_best(data):
    stop = EarlyStopping(patience=3)
    run = trainer([stop], lr=2.0)
    history = run.fit(*data, epochs=200)
    losses = [row["val_loss"] for row in history]
    assert len(history) == stop.best_epoch + 3 < 200
    assert stop.best == min(losses) == losses[stop.best_epoch - 1]
    assert run.evaluate(data[1])["loss"] == pytest.approx(stop.best, rel=1e-6)


def test_goes_on_while_it_gets_better(data):
    assert len(trainer([EarlyStopping("loss", patience=1)]).fit(data[0], epochs=12)) == 12
    # ... but not by enough.
    assert len(trainer([EarlyStopping("loss", patience=2, min_delta=10)]).fit(data[0], epochs=12)) == 3


def test_nan_is_no_improvement(data):
    def bad(output, target):
        return next(values)

    values = iter([0.5, 0.6] + [np.nan] * 10)
    stop = EarlyStopping("bad", patience=2, mode="max")
    history = trainer([stop], metrics={"bad": bad}, batch_size=24).fit(data[0], epochs=12)
    assert (len(history), stop.best, stop.best_epoch) == (4, 0.6, 2)


def test_higher_may_be_better(data):
    stop = EarlyStopping("val_accuracy", patience=2, mode="max", restore_best=False)
    history = trainer([stop], lr=1.0).fit(*data, epochs=100)
    assert stop.best == max(row["val_accuracy"] for row in history)
    assert len(history) < 100


def test_a_resumed_run_remembers(data, tmp_path):
    whole = trainer([EarlyStopping(patience=3)], lr=2.0)
    expected = whole.fit(*data, epochs=200)
    part = trainer([EarlyStopping(patience=3)], lr=2.0, out=tmp_path / "run")
    part.fit(*data, epochs=3)
    again = trainer([EarlyStopping(patience=3)], lr=2.0, out=tmp_path / "run")
    assert again.fit(*data, epochs=200, resume=True) == expected
    for a, b in zip(whole.model.parameters(), again.model.parameters()):
        np.testing.assert_array_equal(a.data, b.data)
    saved = nnk.load(tmp_path / "run" / "model.safetensors")
    np.testing.assert_array_equal(saved["weight"], whole.model.weight.data)
    # A run that was stopped stays so.
    third = trainer([EarlyStopping(patience=3)], lr=2.0, out=tmp_path / "run")
    assert third.fit(*data, epochs=200, resume=True) == expected


def test_bad_arguments(data):
    with pytest.raises(ValueError, match="monitor is 'val_loss', expected one of 'epoch', 'lr', 'loss'"):
        trainer([EarlyStopping()]).fit(data[0])
    with pytest.raises(ValueError, match="patience is 0"):
        EarlyStopping(patience=0)
    with pytest.raises(ValueError, match="min_delta is -1, expected at least 0"):
        EarlyStopping(min_delta=-1)
    with pytest.raises(ValueError, match="mode"):
        EarlyStopping(mode="least")
