"""Runs with every callback that keeps a state: cut off anywhere, they go on bit for bit."""

import os
import re
import signal

import numpy as np
import pytest

pytest.importorskip("safetensors")

from nnk.train import (
    Callback,
    Checkpoint,
    CheckpointError,
    Curves,
    EarlyStopping,
    ExponentialMovingAverage,
    Snapshots,
    StochasticWeightAveraging,
)

EPOCHS, BATCHES = 4, 5


class Cut(Exception):
    """Stands for whatever ends a program."""


class CutAt(Callback):
    def __init__(self, step):
        self.step = step

    def batch_end(self, trainer, samples):
        if trainer.epoch * BATCHES + trainer.batch == self.step:
            raise Cut


class Unknown:
    """Batches of which nobody says how many there are."""

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)


@pytest.fixture(autouse=True)
def no_curves(monkeypatch):
    monkeypatch.setattr(Curves, "fit_end", lambda curves, trainer: None)


def stateful():
    return [
        ExponentialMovingAverage(0.9),
        StochasticWeightAveraging(start=2),
        EarlyStopping("loss", patience=1, min_delta=0.3),
        Snapshots(1),
    ]


@pytest.fixture
def make(make_trainer):
    """A trainer with them all, two batches to an update, and a rate that changes with each update."""

    def make(out=None, *others):
        return make_trainer(out, accumulate=2, callbacks=[*stateful(), *others])

    return make


def flat(tree):
    if isinstance(tree, dict):
        return {f"{key}.{name}": leaf for key, value in tree.items() for name, leaf in flat(value).items()}
    if isinstance(tree, list):
        return flat(dict(enumerate(tree)))
    return {"": np.asarray(tree).tobytes()}


def results(trainer):
    """All that a run ends with, bit for bit."""
    state = {"model": trainer.model.state_dict(), "optimizer": trainer.optimizer.state_dict()}
    state["history"] = trainer.history
    return flat(state | {type(c).__name__: c.state_dict() for c in trainer.stateful})


@pytest.mark.parametrize("length_is_known", [True, False])
def test_cut_off_after_any_batch(tmp_path, make, images, length_is_known):
    if not length_is_known:
        images = Unknown([(images[0][i : i + 10], images[1][i : i + 10]) for i in range(0, 50, 10)])
    whole = make()
    epochs = len(whole.fit(images, epochs=EPOCHS))
    assert 2 <= epochs < EPOCHS  # it was stopped
    for step in range(1, epochs * BATCHES + 1):
        out = tmp_path / str(step)
        with pytest.raises(Cut):
            make(out, Checkpoint(steps=1), CutAt(step)).fit(images, epochs=EPOCHS)
        again = make(out)
        again.fit(images, epochs=EPOCHS, resume=True)
        assert results(again) == results(whole), step


@pytest.mark.parametrize("wrap", [list, Unknown])
def test_ctrl_c_during_evaluation(tmp_path, make, images, val_images, wrap):
    """Between the epoch's last update and its end."""
    batches = wrap([(images[0][i : i + 10], images[1][i : i + 10]) for i in range(0, 50, 10)])
    whole = make()
    whole.fit(batches, val_images, EPOCHS)
    trainer = make(tmp_path)
    evaluate = trainer.evaluate
    trainer.evaluate = lambda data: (os.kill(os.getpid(), signal.SIGINT), evaluate(data))[1]
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(batches, val_images, EPOCHS)
    again = make(tmp_path)
    again.fit(batches, val_images, EPOCHS, resume=True)
    assert results(again) == results(whole)


def test_ctrl_c_while_the_average_is_evaluated(tmp_path, make_trainer, images, val_images):
    """Its weights are in the model then, and do not get into the checkpoint."""

    class Evaluate(Callback):
        def batch_end(self, trainer, samples):
            with average.applied(trainer.model):
                if (trainer.epoch, trainer.batch) == (0, 3) and "interrupt" in mode:
                    os.kill(os.getpid(), signal.SIGINT)
                losses.append(trainer.evaluate(val_images)["loss"])

    def run(out=None, **options):
        nonlocal average
        average = ExponentialMovingAverage(0.9)
        trainer = make_trainer(out, callbacks=[average, Evaluate()])
        trainer.fit(images, epochs=2, **options)
        return results(trainer)

    average, mode, losses = None, "", []
    whole, expected = run(), losses
    mode, losses = "interrupt", []
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)
    assert len(losses) == 3
    mode = ""
    assert run(tmp_path, resume=True) == whole
    assert losses == expected


@pytest.mark.parametrize(
    ("here", "there"),
    [
        (ExponentialMovingAverage(0.9), ExponentialMovingAverage(0.99)),
        (StochasticWeightAveraging(2), StochasticWeightAveraging(2, every=2)),
        (EarlyStopping("loss"), EarlyStopping("loss", min_delta=0.1)),
        (Snapshots(2), Snapshots(3)),
    ],
)
def test_other_options_are_another_run(tmp_path, make_trainer, images, here, there):
    make_trainer(tmp_path, callbacks=[there]).fit(images)
    with pytest.raises(CheckpointError, match=re.escape(f'callbacks.0 is "{here!r}" here and "{there!r}" in the run')):
        make_trainer(tmp_path, callbacks=[here]).fit(images, epochs=2, resume=True)


def test_what_is_no_callback(make_trainer):
    with pytest.raises(TypeError, match=r"callbacks holds <class .*EarlyStopping'>, expected instances"):
        make_trainer(callbacks=[EarlyStopping])
