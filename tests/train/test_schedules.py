"""Schedules within a run: stepped when they should be, and gone on with after a cut."""

import numpy as np
import pytest

from nnk import nn, optim
from nnk.optim import lr_scheduler
from nnk.train import Trainer

MADE = {
    "sequence": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.LinearLR(o, 0.1, total_iters=3), lr_scheduler.CosineAnnealingLR(o, 12)], [3]
    ),
    "chain": lambda o: lr_scheduler.ChainedScheduler(
        [lr_scheduler.MultiStepLR(o, [2, 7]), lr_scheduler.LambdaLR(o, lambda t: 0.9**t)]
    ),
    "cycle": lambda o: lr_scheduler.CyclicLR(o, 1e-3, 1e-2, 4, mode="exp_range", gamma=0.9),
    "plateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=0, threshold=0.5),
}


def trainer(make_trainer, name, **options):
    made = make_trainer(scheduler=False, **options)
    return Trainer(
        made.model,
        optimizer=made.optimizer,
        scheduler=MADE[name](made.optimizer),
        scheduler_interval=None if name == "plateau" else "step",
        batch_size=10,
        seed=1,
        out=made.out,
    )


@pytest.mark.parametrize("name", MADE)
def test_a_resumed_run_has_the_same_rates(tmp_path, make_trainer, images, val_images, name):
    whole = trainer(make_trainer, name).fit(images, val_images, epochs=4)
    trainer(make_trainer, name, out=tmp_path).fit(images, val_images, epochs=2)
    resumed = trainer(make_trainer, name, out=tmp_path).fit(images, val_images, epochs=4, resume=True)
    assert resumed == whole
    assert len({row["lr"] for row in whole}) > 1


@pytest.mark.parametrize("with_validation", [True, False])
def test_a_plateau_hears_the_loss_of_the_epoch(make_trainer, images, val_images, with_validation):
    made = trainer(make_trainer, "plateau")
    heard = []
    made.scheduler.step = heard.append
    history = made.fit(images, val_images if with_validation else None, epochs=3)
    assert heard == [row["val_loss" if with_validation else "loss"] for row in history]


def test_a_plateau_cannot_step_per_batch():
    model = nn.Linear(2, 2)
    optimizer = optim.SGD(model.parameters())
    with pytest.raises(ValueError, match="scheduler_interval with ReduceLROnPlateau='step' is not supported"):
        Trainer(
            model,
            optimizer=optimizer,
            scheduler=lr_scheduler.ReduceLROnPlateau(optimizer),
            scheduler_interval="step",
        )


@pytest.mark.parametrize("name", ["Adagrad", "Adadelta", "RMSprop"])
def test_a_resumed_run_has_the_same_optimiser(tmp_path, make_trainer, images, name):
    def fit(epochs, out=None, **options):
        made = make_trainer(scheduler=False)
        groups = [{"params": list(made.model.parameters()), "l1": 1e-3}]
        optimizer = getattr(optim, name)(groups, lr=0.01)
        run = Trainer(made.model, optimizer=optimizer, batch_size=10, seed=1, out=out)
        return run.fit(images, epochs=epochs, **options), made.model

    history, model = fit(4)
    fit(2, tmp_path)
    resumed_history, resumed = fit(4, tmp_path, resume=True)
    assert resumed_history == history
    for ours, theirs in zip(resumed.parameters(), model.parameters()):
        np.testing.assert_array_equal(ours.data, theirs.data)
