import numpy as np
import pytest

import nnk
from nnk import nn, optim
from nnk.train import Callback, ExponentialMovingAverage, StochasticWeightAveraging, Trainer, recompute_bn


class Record(Callback):
    """The weights after every batch and every epoch."""

    def __init__(self):
        self.batches, self.epochs = [], []

    def batch_end(self, trainer, samples):
        self.batches.append(trainer.model.weight.data.copy())

    def epoch_end(self, trainer):
        self.epochs.append(trainer.model.weight.data.copy())


def trainer(*callbacks, seed=0, **options):
    nnk.manual_seed(seed)
    model = nn.Linear(4, 3)
    return Trainer(
        model, optimizer=optim.SGD(model.parameters(), 0.3), batch_size=8, seed=1, callbacks=callbacks, **options
    )


@pytest.fixture
def data(rng):
    return rng.standard_normal((40, 4)).astype(np.float32), rng.integers(0, 3, 40)


def test_exponential_moving_average(data):
    average, record = ExponentialMovingAverage(0.9), Record()
    run = trainer(average, record)
    run.fit(data, epochs=3)
    expected = record.batches[0]
    for t, weights in enumerate(record.batches[1:], 1):
        decay = min(0.9, (1 + t) / (10 + t))
        expected = decay * expected + (1 - decay) * weights
    np.testing.assert_allclose(average.weights["weight"], expected, rtol=1e-5)
    before = run.model.weight.data.copy()
    with average.applied(run.model) as model:
        np.testing.assert_array_equal(model.weight.data, average.weights["weight"])
    np.testing.assert_array_equal(run.model.weight.data, before)


def test_only_updates_count(data):
    average = ExponentialMovingAverage()
    trainer(average, accumulate=2).fit(data, epochs=2)  # five batches an epoch: three updates
    assert average.updates == 6
    batches = [(data[0][i : i + 8], data[1][i : i + 8]) for i in range(0, 40, 8)]

    class Unknown:
        def __iter__(self):
            return iter(batches)

    average = ExponentialMovingAverage(0)  # the weights of the last update
    run = trainer(average, accumulate=2)
    run.fit(Unknown(), epochs=2)  # that there is no sixth batch is known only after the fifth
    assert average.updates == 6
    np.testing.assert_array_equal(average.weights["weight"], run.model.weight.data)


def test_stochastic_weight_averaging(data):
    average, record = StochasticWeightAveraging(start=2, every=2), Record()
    run = trainer(average, record)
    run.fit(data, epochs=7)
    assert average.updates == 3
    np.testing.assert_allclose(average.weights["weight"], np.mean(record.epochs[1:6:2], axis=0), rtol=1e-5)
    average.copy_to(run.model)
    np.testing.assert_array_equal(run.model.weight.data, average.weights["weight"])


@pytest.mark.parametrize("make", [lambda: ExponentialMovingAverage(0.9), lambda: StochasticWeightAveraging(2)])
def test_a_resumed_run_has_the_same_average(data, tmp_path, make):
    whole = make()
    trainer(whole).fit(data, epochs=5)
    trainer(make(), out=tmp_path / "run").fit(data, epochs=3)
    again = make()
    trainer(again, seed=7, out=tmp_path / "run").fit(data, epochs=5, resume=True)
    assert again.updates == whole.updates
    np.testing.assert_array_equal(again.weights["weight"], whole.weights["weight"])


def test_statistics_are_averaged_but_integers_are_not(data):
    class Statistics(Callback):
        def batch_end(self, trainer, samples):
            means.append(trainer.model[1].running_mean.copy())

    means = []
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    average = ExponentialMovingAverage(0.05)
    Trainer(model, batch_size=8, callbacks=[average, Statistics()]).fit(data)
    expected = means[0]
    for mean in means[1:]:
        expected = 0.05 * expected + 0.95 * mean
    np.testing.assert_allclose(average.weights["1.running_mean"], expected, rtol=1e-5)
    assert average.weights["1.num_batches_tracked"] == 5


def test_statistics_of_averaged_weights(data):
    x = data[0]
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    average = StochasticWeightAveraging(start=1)
    optimizer = optim.SGD(model.parameters(), 0.5)
    Trainer(model, optimizer=optimizer, batch_size=8, callbacks=[average]).fit(data, epochs=3)
    before = {name: array.copy() for name, array in model.state_dict().items()}
    with average.applied(model):
        recompute_bn(model, [x])
        outputs = model[0].eval()(x)
        np.testing.assert_allclose(model[1].running_mean, outputs.mean(0), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(model[1].running_var, outputs.var(0, ddof=1), rtol=1e-5)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_no_average_yet(data):
    average = StochasticWeightAveraging(start=5)
    run = trainer(average)
    run.fit(data, epochs=2)
    with pytest.raises(ValueError, match="holds no average yet"):
        average.copy_to(run.model)
    with pytest.raises(ValueError, match="decay is 1"):
        ExponentialMovingAverage(1)
