import numpy as np
import pytest

import nnk
from nnk import nn, optim
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
    run(Snapshots(2), 3, out=tmp_path / "run")
    resumed = Snapshots(2)
    run(resumed, 6, out=tmp_path / "run")
    for a, b in zip(resumed.weights, snapshots.weights):
        np.testing.assert_array_equal(a["weight"], b["weight"])
    with pytest.raises(ValueError, match="no cycle of 5 epochs is over yet"):
        Snapshots(5).ensemble(model)


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
    with pytest.raises(ValueError, match="views is empty"):
        augmented_probabilities(model, x, [])


def test_bad_input():
    with pytest.raises(ValueError, match="models is empty"):
        Ensemble([])
    with pytest.raises(ValueError, match=r"output has shape \(2, 3, 4\), expected \(N, C\)"):
        probabilities(nn.Identity(), np.zeros((2, 3, 4), np.float32))
