import numpy as np
import pytest

import nnk
from nnk import nn, optim
from nnk.train import CheckpointError, Trainer


def trainer(**options):
    nnk.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3))
    return Trainer(model, optimizer=optim.SGD(model.parameters(), 0.5), batch_size=12, seed=1, **options)


@pytest.fixture
def data(rng):
    return 3 * rng.standard_normal((36, 5)).astype(np.float32), rng.integers(0, 3, 36)


@pytest.mark.parametrize(
    ("options", "clip"),
    [
        ({"clip_norm": np.float32(0.1)}, lambda parameters: nn.utils.clip_grad_norm_(parameters, 0.1)),
        ({"clip_value": 0.02}, lambda parameters: nn.utils.clip_grad_value_(parameters, 0.02)),
    ],
)
@pytest.mark.parametrize("accumulate", [1, 2])
def test_as_if_clipped_before_the_step(data, options, clip, accumulate):
    ours, by_hand, plain = (trainer(accumulate=accumulate, **chosen) for chosen in (options, {}, {}))
    step = by_hand.optimizer.step
    by_hand.optimizer.step = lambda: (clip(by_hand.model.parameters()), step())
    for run in (ours, by_hand, plain):
        run.fit(data, epochs=2)
    for a, b, c in zip(ours.model.parameters(), by_hand.model.parameters(), plain.model.parameters()):
        np.testing.assert_allclose(a.data, b.data, rtol=1e-5, atol=1e-6)
        assert np.abs(a.data - c.data).max() > 1e-3


def test_a_run_goes_on_with_its_own_clipping_only(data, tmp_path):
    whole = trainer(clip_norm=0.1)
    whole.fit(data, epochs=3)
    trainer(clip_norm=0.1, out=tmp_path).fit(data)
    with pytest.raises(CheckpointError, match=r"clip_norm is 0\.2 here and 0\.1 in the run"):
        trainer(clip_norm=0.2, out=tmp_path).fit(data, epochs=3, resume=True)
    with pytest.raises(CheckpointError, match=r"clip_norm is null here and 0\.1 in the run"):
        trainer(out=tmp_path).fit(data, epochs=3, resume=True)
    again = trainer(clip_norm=0.1, out=tmp_path)
    again.fit(data, epochs=3, resume=True)
    for a, b in zip(whole.model.parameters(), again.model.parameters()):
        np.testing.assert_array_equal(a.data, b.data)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clip_norm": -1}, "clip_norm is -1, expected at least 0"),
        ({"clip_value": 0}, "clip_value is 0, expected above 0"),
        ({"clip_norm": 1, "clip_value": 1}, "clip_norm and clip_value are both given"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        trainer(**options)
    with pytest.raises(TypeError, match="clip_norm is '1', expected a number"):
        trainer(clip_norm="1")
