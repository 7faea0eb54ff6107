import math

import numpy as np
import pytest

import nnk
from nnk import nn, optim
from nnk.data import ArrayDataset, DataLoader
from nnk.train import Callback, NonFiniteError, Trainer


def weights(trainer):
    return {name: array.copy() for name, array in trainer.model.state_dict().items()}


def assert_same_weights(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_a_model_learns(make_trainer, images, val_images):
    trainer = make_trainer()
    history = trainer.fit(images, val_images, epochs=12)
    assert [row["epoch"] for row in history] == list(range(1, 13))
    assert list(history[0]) == ["epoch", "lr", "loss", "accuracy", "val_loss", "val_accuracy"]
    assert history[-1]["loss"] < history[0]["loss"] / 2
    assert history[-1]["val_accuracy"] > 0.9
    assert history is trainer.history


def test_any_form_of_data_gives_the_same_training(make_trainer, images):
    loader = DataLoader(ArrayDataset(*images), 10, shuffle=True, seed=1)
    batches = [list(loader.batches(epoch)) for epoch in range(2)]

    class ByEpoch:
        """Iterates over the batches of one epoch after the other."""

        epoch = -1

        def __iter__(self):
            self.epoch += 1
            return iter(batches[self.epoch])

    results = []
    for data in (images, ArrayDataset(*images), loader, ByEpoch()):
        trainer = make_trainer()
        trainer.fit(data, epochs=2)
        results.append(weights(trainer))
    for other in results[1:]:
        assert_same_weights(results[0], other)


def test_the_same_seed_repeats_and_another_does_not(make_trainer, images):
    runs = []
    for seed in (1, 1, 2):
        trainer = make_trainer(seed=seed)
        trainer.fit(images, epochs=1)
        runs.append(weights(trainer))
    assert_same_weights(runs[0], runs[1])
    assert (runs[0]["6.weight"] != runs[2]["6.weight"]).any()


def test_fit_goes_on_where_it_stopped(make_trainer, images):
    at_once, in_two = make_trainer(), make_trainer()
    at_once.fit(images, epochs=3)
    nnk.manual_seed(7)
    in_two = make_trainer()
    in_two.fit(images, epochs=1)
    in_two.fit(images, epochs=2)
    assert_same_weights(weights(at_once), weights(in_two))
    assert at_once.history == in_two.history


def test_evaluate_weighs_samples_equally_and_changes_nothing(make_trainer, val_images):
    trainer = make_trainer()
    trainer.model.train()
    before = weights(trainer)
    result = trainer.evaluate(val_images)  # batches of 10, 10 and 3
    assert_same_weights(before, weights(trainer))
    assert trainer.model.training
    assert trainer.model[4].training
    with pytest.raises(RuntimeError, match="backward"):
        trainer.model.backward(np.zeros((3, 4), np.float32))

    trainer.model.eval()
    output = trainer.model(val_images[0])
    loss = float(nn.CrossEntropyLoss()(output, val_images[1]))
    assert result["loss"] == pytest.approx(loss, rel=1e-6)
    assert result["accuracy"] == pytest.approx((output.argmax(1) == val_images[1]).mean())


def test_predict_returns_the_outputs_in_eval_mode(make_trainer, val_images):
    trainer = make_trainer()
    output = trainer.predict(val_images[0])
    assert output.shape == (23, 4)
    trainer.model.eval()
    np.testing.assert_allclose(output, trainer.model(val_images[0]), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(output, trainer.predict(ArrayDataset(*val_images)))


def test_other_losses_have_no_accuracy_and_metrics_are_the_users(images):
    class Squares(nn.Module):
        def forward(self, input, target):
            self.save(input - target)
            return ((input - target) ** 2).mean()

        def backward(self, dy=None):
            difference = self.saved()
            return 2 * difference / difference.size

    targets = images[0].mean((2, 3))
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 1))
    row = Trainer(model, loss=Squares()).fit((images[0], targets), epochs=1)[0]
    assert list(row) == ["epoch", "lr", "loss"]
    worst = {"worst": lambda output, target: float(abs(output - target).max())}
    row = Trainer(model, loss=Squares(), metrics=worst).fit((images[0], targets), epochs=1)[0]
    assert list(row) == ["epoch", "lr", "loss", "worst"]


@pytest.mark.parametrize(("interval", "steps"), [("step", 10), ("epoch", 2)])
def test_schedules_step_per_batch_or_per_epoch(images, interval, steps):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    optimizer = optim.SGD(model.parameters(), lr=1.0)
    scheduler = optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    trainer = Trainer(model, optimizer=optimizer, scheduler=scheduler, scheduler_interval=interval, batch_size=10)
    trainer.fit(images, epochs=2)
    assert optimizer.param_groups[0]["lr"] == 0.5**steps


def test_one_cycle_steps_per_batch_unasked(images):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    optimizer = optim.SGD(model.parameters(), lr=1.0)
    scheduler = optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=10)
    history = Trainer(model, optimizer=optimizer, scheduler=scheduler, batch_size=10).fit(images, epochs=2)
    assert history[-1]["lr"] == pytest.approx(1 / 25 / 1e4)


def test_no_gradient_to_the_images_is_asked_for(images):
    asked = []

    class Spy(nn.Linear):
        def backward(self, dy, input_grad=True):
            asked.append(input_grad)
            return super().backward(dy, input_grad)

    trainer = Trainer(nn.Sequential(Spy(64, 8), Spy(8, 4)), batch_size=50)
    trainer.fit((images[0].reshape(-1, 64), images[1]))
    assert asked == [True, False]


def test_callbacks_are_called_in_order(make_trainer, images):
    calls = []

    class Note(Callback):
        def fit_start(self, trainer):
            calls.append("start")

        def batch_end(self, trainer, samples):
            calls.append((trainer.epoch, trainer.batch, samples))

        def epoch_end(self, trainer):
            calls.append((trainer.epoch, len(trainer.history)))

        def fit_end(self, trainer):
            calls.append("end")

    small = images[0][:23], images[1][:23]
    make_trainer(callbacks=[Note()]).fit(small, epochs=2)
    assert calls == [
        "start", (0, 1, 10), (0, 2, 10), (0, 3, 3), (1, 1), (1, 1, 10), (1, 2, 10), (1, 3, 3), (2, 2), "end"
    ]  # fmt: skip


def test_fit_end_is_called_after_a_failure_too(make_trainer, images):
    ended = []

    class Break(Callback):
        def batch_end(self, trainer, samples):
            raise ZeroDivisionError

        def fit_end(self, trainer):
            ended.append(True)

    with pytest.raises(ZeroDivisionError):
        make_trainer(callbacks=[Break()]).fit(images)
    assert ended == [True]


def test_a_loss_that_is_not_finite_names_the_first_bad_layer(make_trainer, images, tmp_path, contents):
    trainer = make_trainer(tmp_path / "run")
    trainer.fit(images, epochs=1)
    before = contents(tmp_path / "run")
    trainer.model[6].weight.data[0, 0] = np.inf
    with pytest.raises(NonFiniteError, match=r"loss is (nan|inf) in epoch 2, batch 1.*6 \(Linear\)"):
        trainer.fit(images, epochs=1)
    assert contents(tmp_path / "run").keys() == before.keys()


def test_an_input_that_is_not_finite_is_named(make_trainer, images):
    bad = images[0].copy()
    bad[3, 0, 2, 2] = math.nan
    with pytest.raises(NonFiniteError, match="the input"):
        make_trainer().fit((bad, images[1]))


def test_a_loss_for_each_sample_is_refused(make_trainer, images):
    trainer = make_trainer(loss=nn.CrossEntropyLoss(reduction="none"))
    with pytest.raises(ValueError, match=r"loss has shape \(10,\), expected one number"):
        trainer.fit(images)


def test_validation_may_begin_later(make_trainer, images, val_images, tmp_path):
    trainer = make_trainer(tmp_path / "run")
    trainer.fit(images)
    trainer.fit(images, val_images)
    header, first, second = (tmp_path / "run" / "history.csv").read_text().splitlines()
    assert header == "epoch,lr,loss,accuracy,val_loss,val_accuracy"
    assert first.endswith(",,")
    assert second.count(",") == 5


def test_bad_data_is_named(make_trainer, images):
    trainer = make_trainer()
    with pytest.raises(TypeError, match="train is a int, expected a pair of arrays"):
        trainer.fit(3)
    with pytest.raises(TypeError, match=r"a batch is a ndarray of 50, expected a pair \(input, target\)"):
        trainer.fit([images[0]])
    with pytest.raises(TypeError, match="a batch is a tuple of 3, expected a pair"):
        trainer.fit([(images[0], images[1], images[1])])
    with pytest.raises(ValueError, match="train has no batch in epoch 1"):
        trainer.fit([])
    with pytest.raises(ValueError, match="train has no batch in epoch 2"):
        trainer.fit(iter([images]), epochs=2)
    with pytest.raises(ValueError, match="no batch to evaluate"):
        trainer.evaluate([])
    with pytest.raises(ValueError, match="same length"):
        trainer.fit((images[0], images[1][:-1]))
    with pytest.raises(ValueError, match="scheduler_interval is 'batch', expected 'step', 'epoch' or None"):
        make_trainer(scheduler_interval="batch")
    with pytest.raises(ValueError, match="inputs is empty"):
        trainer.predict(images[0][:0])
    with pytest.raises(ValueError, match="out is None"):
        trainer.save()
    with pytest.raises(ValueError, match="epochs is 0, expected at least 1"):
        trainer.fit(images, epochs=0)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"model": 3}, TypeError, "model is 3, expected an instance of nnk.nn.module.Module"),
        ({"model": None}, TypeError, "model is None"),
        ({"loss": nn.MSELoss}, TypeError, "loss is <class .*MSELoss'>, expected an instance"),
        ({"optimizer": "adam"}, TypeError, "optimizer is 'adam', expected an instance"),
        ({"batch_size": 2.5}, TypeError, "batch_size is 2.5, expected an int"),
        ({"batch_size": 0}, ValueError, "batch_size is 0, expected at least 1"),
    ],
)
def test_what_a_trainer_is_not_made_of(options, error, message):
    with pytest.raises(error, match=message):
        Trainer(**{"model": nn.Linear(2, 2), **options})
