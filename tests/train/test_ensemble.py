import numpy as np
import pytest

import nnk
from nnk import nn, optim
from nnk.data import ArrayDataset
from nnk.train import Ensemble, Snapshots, Trainer, augmented_probabilities, bagging, probabilities


def softmax(logits):
    e = np.exp(logits - logits.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def test_mean_of_probabilities(rng):
    models = [nn.Sequential(nn.Linear(4, 3), nn.Dropout()) for _ in range(3)]
    x = rng.standard_normal((10, 4)).astype(np.float32)
    expected = np.mean([softmax(m.eval()(x)) for m in models], axis=0)
    for model in models:
        model.train()
    got = Ensemble(models).predict(x, batch_size=4)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    assert all(model.training for model in models)


def test_snapshots_of_every_cycle(rng, tmp_path):
    x, y = rng.standard_normal((16, 4)).astype(np.float32), rng.integers(0, 3, 16)

    def run(snapshots, epochs, **options):
        nnk.manual_seed(0)
        model = nn.Linear(4, 3)
        Trainer(model, optimizer=optim.SGD(model.parameters(), 0.1), seed=0, callbacks=[snapshots], **options).fit(
            (x, y), epochs=epochs, resume=epochs == 6 and bool(options)
        )
        return model

    snapshots = Snapshots(2)
    model = run(snapshots, 6)
    ensemble = snapshots.ensemble(model)
    assert len(ensemble.models) == 3
    np.testing.assert_array_equal(ensemble.models[2].weight.data, model.weight.data)
    assert (ensemble.models[0].weight.data != model.weight.data).any()
    assert len(snapshots.ensemble(model, last=2).models) == 2
    for last, message in ((0, "last is 0"), (4, "last is 4, expected at most the number of snapshots, 3")):
        with pytest.raises(ValueError, match=message):
            snapshots.ensemble(model, last=last)
    run(Snapshots(2), 3, out=tmp_path / "run")
    resumed = Snapshots(2)
    run(resumed, 6, out=tmp_path / "run")
    for a, b in zip(resumed.weights, snapshots.weights):
        np.testing.assert_array_equal(a["weight"], b["weight"])
    with pytest.raises(ValueError, match="no cycle of 5 epochs is over yet"):
        Snapshots(5).ensemble(model)


@pytest.mark.parametrize("interval", ["epoch", "step"])
def test_snapshots_where_the_rate_is_lowest(rng, interval):
    x, y = rng.standard_normal((32, 4)).astype(np.float32), rng.integers(0, 3, 32)
    model = nn.Linear(4, 3)
    optimizer = optim.SGD(model.parameters(), 0.1)
    period = 3 if interval == "epoch" else 3 * 4
    schedule = optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=period)
    rates = []

    class Seen(Snapshots):
        def epoch_end(self, trainer):
            kept = len(self.weights)
            super().epoch_end(trainer)
            rates.append((trainer.lr, len(self.weights) > kept))

    Trainer(
        model, optimizer=optimizer, scheduler=schedule, scheduler_interval=interval, batch_size=8, callbacks=[Seen(3)]
    ).fit((x, y), epochs=6)
    assert [kept for _, kept in rates] == [False, False, True] * 2
    assert max(rate for rate, kept in rates if kept) < min(rate for rate, kept in rates if not kept)


def test_bagging_draws_with_replacement(rng):
    x, y = np.arange(50, dtype=np.float32)[:, None], np.arange(50)
    seen = []

    def fit(inputs, targets):
        np.testing.assert_array_equal(inputs[:, 0], targets)
        seen.append(set(targets.tolist()))
        return nn.Linear(1, 2)

    assert len(bagging(fit, x, y, 3, seed=0).models) == 3
    assert all(20 < len(s) < 42 for s in seen)  # 1 - 1/e of 50 is 32
    assert seen[0] != seen[1]
    with pytest.raises(ValueError, match="inputs has 50 samples, targets 49"):
        bagging(fit, x, y[1:], 1, seed=0)


def test_views(rng):
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    x = rng.standard_normal((5, 1, 3, 4)).astype(np.float32)
    got = augmented_probabilities(model, x, [lambda v: v, lambda v: v[..., ::-1]])
    expected = (probabilities(model, x) + probabilities(model, x[..., ::-1])) / 2
    np.testing.assert_allclose(got, expected, rtol=1e-6)
    # What is no array becomes one before the views see it.
    listed = augmented_probabilities(model, x.tolist(), [lambda v: v[..., ::-1]])
    np.testing.assert_allclose(listed, probabilities(model, x[..., ::-1]), rtol=1e-6)
    with pytest.raises(ValueError, match="views is empty"):
        augmented_probabilities(model, x, [])


def test_a_data_set_is_transformed(rng):
    x = rng.standard_normal((9, 4)).astype(np.float32)
    model = nn.Linear(4, 3)
    images = ArrayDataset(x, transform=lambda batch: 2 * batch)
    np.testing.assert_array_equal(probabilities(model, images, 4), probabilities(model, 2 * x, 4))
    np.testing.assert_array_equal(
        augmented_probabilities(model, images, [lambda v: v + 1], 4), probabilities(model, 2 * x + 1, 4)
    )


def test_parts_that_are_frozen_stay_so(rng):
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    model[1].eval()
    probabilities(model, rng.standard_normal((9, 4)).astype(np.float32))
    assert model.training
    assert not model[1].training


def test_bad_input(rng):
    x = rng.standard_normal((2, 4)).astype(np.float32)
    with pytest.raises(ValueError, match="models is empty"):
        Ensemble([])
    with pytest.raises(TypeError, match="models is a Sequential, which is one model"):
        Ensemble(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)))
    with pytest.raises(TypeError, match=r"models\[1\] is a NoneType"):
        Ensemble([nn.Linear(4, 3), None])
    with pytest.raises(ValueError, match=r"models\[1\] knows 2 classes, expected 3"):
        Ensemble([nn.Linear(4, 3), nn.Linear(4, 2)]).predict(x)
    with pytest.raises(ValueError, match="batch_size is 0"):
        probabilities(nn.Linear(4, 3), x, 0)
    with pytest.raises(ValueError, match="inputs is empty"):
        probabilities(nn.Linear(4, 3), x[:0])
    with pytest.raises(ValueError, match=r"output has shape \(2, 1\), expected \(N, C\) with C >= 2"):
        probabilities(nn.Linear(4, 1), x)
    with pytest.raises(ValueError, match="inputs is empty"):
        bagging(lambda x, y: nn.Linear(4, 3), x[:0], x[:0], 1, seed=0)
    with pytest.raises(ValueError, match=r"output has shape \(2, 3, 4\), expected \(N, C\)"):
        probabilities(nn.Identity(), np.zeros((2, 3, 4), np.float32))
