"""Training with a stand-in for CuPy, which captures steps and repeats them: they end where the CPU's do."""

import copy
import sys
import warnings

import numpy as np
import pytest

import nnk
from nnk import backend, nn, optim
from nnk.train import (
    ExponentialMovingAverage,
    NonFiniteError,
    StochasticWeightAveraging,
    Trainer,
    graph,
    loss_scale,
    recompute_bn,
)
from nnk.train.callbacks import Callback, Checkpoint


def images(count=32, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count)
    return (rng.standard_normal((count, 1, 6, 6)) + labels[:, None, None, None]).astype(np.float32), labels


def network(device):
    nnk.manual_seed(5)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.3),
        nn.Flatten(),
        nn.Linear(36, 3),
    ).to(device)


def trainer(device="cuda", make=None, scheduler=True, **options):
    model = network(device)
    optimizer = (make or (lambda p: optim.Adam(p, lr=0.02)))(model.parameters())
    if scheduler:
        options["scheduler"] = optim.lr_scheduler.CosineAnnealingLR(optimizer, 20)
        options["scheduler_interval"] = "step"
    return Trainer(model, optimizer=optimizer, batch_size=8, seed=1, **options)


def replays(made):
    return sum(captured.replays for captured in made._graphs.graphs.values())


def same_ends(ours, theirs, rtol=1e-4):
    for name, array in ours.model.state_dict().items():
        ours_, theirs_ = (backend.asarray_on(a, "cpu") for a in (array, theirs.model.state_dict()[name]))
        np.testing.assert_allclose(ours_, theirs_, rtol=rtol, atol=1e-6, err_msg=name)
    for row, other in zip(ours.history, theirs.history):
        assert row == pytest.approx(other, rel=max(rtol, 1e-6))


MAKE = {
    "SGD": lambda p: optim.SGD(p, lr=0.05, momentum=0.9),
    "Adam": lambda p: optim.Adam(p, lr=0.02),
    "Adagrad": lambda p: optim.Adagrad(p, lr=0.02, lr_decay=0.1),
    "RMSprop": lambda p: optim.RMSprop(p, lr=0.01),
}


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize("clip", [{}, {"clip_norm": 0.5}, {"clip_value": 0.1}], ids=["", "norm", "value"])
def test_replays_end_where_eager_steps_and_the_cpu_do(cupy, name, clip):
    """With a schedule, dropout, statistics that run along, and a last batch that is smaller."""
    ends = []
    for device, wanted in (("cuda", None), ("cuda", False), ("cpu", None)):
        made = trainer(device, MAKE[name], graph=wanted, **clip)
        made.fit(images(29), images(13, seed=1), epochs=4)
        ends.append(made)
    captured, eager, cpu = ends
    assert replays(captured) == 4 * 3 - graph.WARM_UP  # each epoch has three whole batches, and one of five images
    assert replays(eager) == 0
    same_ends(captured, eager, rtol=0)
    same_ends(captured, cpu)
    assert captured.optimizer.state_dict()["state"][0].get("step") == cpu.optimizer.state_dict()["state"][0].get("step")


def waits(cupy, made):
    """A list that gets, at each batch's end, how often anybody has waited so far."""
    seen = []

    class Count(Callback):
        def batch_end(self, trainer, samples):
            seen.append(cupy.State.syncs)

    made.callbacks.append(Count())
    return seen


def test_nobody_waits_between_looks(cupy):
    made = trainer()
    made.fit(images(), epochs=1)
    seen = waits(cupy, made)
    made.fit(images(), epochs=2)
    assert len(set(seen[:4])) == 1
    assert replays(made) == 4 * 3 - graph.WARM_UP


def scaled(make=None, scale=2.0**16, **options):
    """A trainer that scales its loss as for float16; the stand-in computes in float32."""
    made = trainer(make=make, precision="fp16", **options)
    made.precision.dtype = np.dtype(np.float32)
    made.precision.loss_scale.scale.fill(scale)
    return made


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize("clip", [{}, {"clip_norm": 0.5}, {"clip_value": 0.1}], ids=["", "norm", "value"])
def test_a_scaled_loss_ends_where_any_does(cupy, name, clip):
    """Powers of two change no digit, in replays neither."""
    ends = []
    for start, options in ((scaled, {}), (scaled, {"graph": False}), (trainer, {})):
        ends.append(start(make=MAKE[name], **options, **clip))
        ends[-1].fit(images(29), epochs=4)
    captured, eager, plain = ends
    assert replays(captured) == 4 * 3 - graph.WARM_UP
    assert [row.pop("skipped") for row in captured.history + eager.history] == [0] * 8
    same_ends(captured, plain, rtol=0)
    same_ends(eager, plain, rtol=0)


class Watch(Callback):
    """Notes what every step did: did the weights move, how many updates were left out before, the scale then."""

    def fit_start(self, trainer):
        self.steps, self.syncs = [], []
        self.last = trainer.model[0].weight.data.get()

    def batch_end(self, trainer, samples):
        self.syncs.append(sys.modules["cupy"].State.syncs)
        before, self.last = self.last, trainer.model[0].weight.data.get()
        state = trainer.precision.state_dict()
        self.steps.append(((self.last != before).any(), state["skipped"], np.log2(state["scale"])))


@pytest.mark.parametrize("name", MAKE)
def test_an_overflow_within_a_graph_leaves_the_update_out(cupy, monkeypatch, name):
    monkeypatch.setattr(loss_scale, "PATIENCE", 5)
    watch = Watch()
    made = scaled(MAKE[name], scale=2.0**70, scheduler=False, callbacks=[watch])
    made.fit(images(), epochs=6)
    eager = scaled(MAKE[name], scale=2.0**70, scheduler=False, graph=False)
    eager.fit(images(), epochs=6)
    assert replays(made) == 4 * 6 - graph.WARM_UP
    same_ends(made, eager, rtol=0)
    skipped = made.history[-1]["skipped"]
    assert graph.WARM_UP < skipped < 20, "nothing was left out within a graph, or all"
    exponent, good = 70, 0
    for step, (moved, left_out, now) in enumerate(watch.steps):
        if left_out > (watch.steps[step - 1][1] if step else 0):
            exponent, good = exponent - 1, 0
            assert not moved
        else:
            assert moved
            good += 1
            exponent, good = (exponent + 1, 0) if good == 5 else (exponent, good)
        assert now == exponent
    assert exponent > 70 - skipped, "the scale was never doubled"
    for state in made.optimizer.state_dict()["state"].values():
        assert int(state.get("step", 24 - skipped)) == 24 - skipped


def test_nobody_waits_for_the_scale(cupy):
    made = scaled()
    made.fit(images(), epochs=1)
    seen = waits(cupy, made)
    made.fit(images(), epochs=2)
    made._graphs.wanted = False
    made.fit(images(), epochs=1)
    assert [len(set(seen[i : i + 4])) for i in (0, 4, 8)] == [1, 1, 1]


def test_a_scaled_run_cut_off_in_an_epoch_ends_the_same(cupy, monkeypatch, tmp_path):
    monkeypatch.setattr(loss_scale, "PATIENCE", 4)

    class Cut(Exception):
        pass

    class Die(Callback):
        def batch_end(self, trainer, samples):
            if (trainer.epoch, trainer.batch) == (3, 3):
                raise Cut

    whole = scaled(scale=2.0**70, out=tmp_path / "whole")
    whole.fit(images(29), epochs=6)
    options = {"scale": 2.0**70, "out": tmp_path / "run"}
    with pytest.raises(Cut):
        scaled(callbacks=[Checkpoint(steps=2), Die()], **options).fit(images(29), epochs=6)
    nnk.manual_seed(3)
    second = scaled(callbacks=[Checkpoint(steps=2)], **options)
    second.fit(images(29), epochs=6, resume=True)
    same_ends(second, whole, rtol=0)
    assert second.history == whole.history
    assert second.precision.state_dict() == whole.precision.state_dict()
    ours, theirs = (made.optimizer.state_dict()["state"] for made in (second, whole))
    assert [int(state["step"]) for state in ours.values()] == [int(state["step"]) for state in theirs.values()]


def test_steps_are_counted_on_the_host_again_without_a_scale(cupy):
    """One optimiser, first in mixed precision, then without."""
    made = scaled()
    made.fit(images(), epochs=2)
    plain = Trainer(made.model, optimizer=made.optimizer, batch_size=8, seed=1)
    plain.fit(images(), epochs=2)
    assert replays(plain) == 4 * 2 - graph.WARM_UP
    assert {state["step"] for state in made.optimizer.state.values()} == {16}


def test_a_resumed_run_continues_bit_for_bit(cupy, tmp_path):
    whole = trainer()
    whole.fit(images(29), epochs=6)
    first = trainer(out=tmp_path / "run", callbacks=[ExponentialMovingAverage()])
    first.fit(images(29), epochs=4)
    second = trainer(out=tmp_path / "run", callbacks=[ExponentialMovingAverage()])
    second.fit(images(29), epochs=6, resume=True)
    same_ends(second, whole, rtol=0)
    assert type(second.callbacks[0].weights["0.weight"]) is cupy.ndarray
    saved = nnk.load(tmp_path / "run" / "model.safetensors")
    np.testing.assert_array_equal(saved["0.weight"], second.model[0].weight.data.get())


def test_a_shape_that_changes_is_captured_anew(cupy):
    rng = np.random.default_rng(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).to("cuda")
    made = Trainer(model, optimizer=optim.SGD(model.parameters(), lr=0.1))
    sizes = [6] * 4 + [7] * 4 + [6] * 2 + [8] * 4
    batches = [(rng.standard_normal((4, 1, s, s)).astype(np.float32), rng.integers(0, 3, 4)) for s in sizes]
    made.fit(batches)
    counts = {shape[0][2]: captured.replays for shape, captured in made._graphs.graphs.items()}
    assert counts == {6: 2 + 2, 7: 2, 8: 2}


def test_smaller_batches_are_captured_when_an_epoch_has_no_others(cupy):
    made = trainer()
    made.fit(images(), epochs=1)
    x, y = images()
    made.fit([(x[:4], y[:4])] * 5)
    assert sorted((shape[0][0], one.replays) for shape, one in made._graphs.graphs.items()) == [(4, 3), (8, 2)]


def test_few_shapes_are_kept(cupy):
    rng = np.random.default_rng(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).to("cuda")
    made = Trainer(model)
    sizes = [s for s in range(5, 11) for _ in range(3)]
    made.fit([(rng.standard_normal((4, 1, s, s)).astype(np.float32), rng.integers(0, 3, 4)) for s in sizes])
    assert [shape[0][2] for shape in made._graphs.graphs] == [7, 8, 9, 10]


def change_data(made):
    made.model[6].weight.data = made.model[6].weight.data * 2


def change_mode(made):
    made.model[4].eval()


def change_rate(made):
    made.model[4].p = 0.5


def change_states(made):
    made.optimizer.load_state_dict(copy.deepcopy(made.optimizer.state_dict()))


def change_option(made):
    made.optimizer.param_groups[0]["weight_decay"] = 0.01


def change_precision(made):
    nnk.set_precision("highest")


def freeze(made):
    made.model[0].weight.requires_grad = False


def change_seed(made):
    nnk.manual_seed(9)


CHANGES = [change_seed, change_data, change_mode, change_rate, change_states, change_option, change_precision, freeze]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_what_is_assigned_drops_the_graphs(cupy, change):
    kept = []

    class Change(Callback):
        def batch_end(self, trainer, samples):
            if trainer._graphs.wanted is None:
                kept.append(trainer._graphs.held)
            if (trainer.epoch, trainer.batch) == (1, 3):
                change(trainer)

    ends = []
    for wanted in (None, False):
        ends.append(trainer(graph=wanted, callbacks=[Change()]))
        try:
            ends[-1].fit(images(), epochs=3)
        finally:
            nnk.set_precision("high")
    same_ends(*ends, rtol=0)
    assert len(set(kept) - {None}) == 2, "the graphs were kept"


def test_a_schedule_of_the_momentum_takes_the_update_out_of_the_graph(cupy):
    ends = []
    for device in ("cuda", "cpu"):
        made = trainer(device, scheduler=False)
        made.scheduler = optim.lr_scheduler.OneCycleLR(made.optimizer, 0.02, 24)
        made.scheduler_interval = "step"
        made.fit(images(), epochs=6)
        ends.append(made)
    same_ends(*ends)
    assert replays(ends[0]) == 4 * 6 - graph.WARM_UP - graph.MOST_ALTERED
    assert not ends[0]._graphs.with_update


def test_an_update_that_cannot_be_captured_is_launched_behind_the_graph(cupy):
    def noisy(parameters):
        return optim.SGD([{"params": list(parameters), "noise": 1e-3}], lr=0.02)

    ends = [trainer(device, noisy) for device in ("cuda", "cpu")]
    for made in ends:
        nnk.manual_seed(1)
        made.fit(images(), epochs=3)
    same_ends(*ends)
    assert replays(ends[0]) == 4 * 3 - graph.WARM_UP


def test_graphs_that_are_dropped_all_the_time_are_given_up(cupy):
    class Cycle(Callback):
        def batch_end(self, trainer, samples):
            if trainer.batch == 4:
                trainer.model[4].p = 0.3 - 0.01 * trainer.epoch

    ends = [trainer(device, callbacks=[Cycle()]) for device in ("cuda", "cpu")]
    nnk.manual_seed(1)
    with pytest.warns(UserWarning, match="not captured as a CUDA graph.*assigned anew every few steps"):
        ends[0].fit(images(), epochs=6)
    nnk.manual_seed(1)
    ends[1].fit(images(), epochs=6)
    same_ends(*ends)


@pytest.mark.parametrize(
    ("layer", "why"), [(nn.GaussianNoise(0.1), "GaussianNoise computes on the host"),
                       (nn.BatchNorm2d(1, momentum=None), "momentum=None computes on the host")], ids=["noise", "norm"])
def test_a_layer_that_cannot_be_captured_is_said_once(cupy, layer, why):
    def made(wanted=None):
        model = nn.Sequential(copy.deepcopy(layer), network("cpu")).to("cuda")
        return Trainer(model, optimizer=optim.SGD(model.parameters(), 0.01), batch_size=8, seed=1, graph=wanted)

    automatic, eager = made(), made(False)
    nnk.manual_seed(1)
    with pytest.warns(UserWarning, match=why) as caught:
        automatic.fit(images(), epochs=3)
    assert len(caught) == 1
    nnk.manual_seed(1)
    eager.fit(images(), epochs=3)
    same_ends(automatic, eager, rtol=0)
    assert not any(module._pending for module in automatic.model.modules())
    with pytest.raises(RuntimeError, match=why):
        made(True).fit(images(), epochs=3)


class Theirs(nn.ReLU):
    def forward(self, x):
        return super().forward(x)


def test_modules_of_others_are_captured_when_asked_for(cupy):
    for wanted, expected in ((None, 0), (True, 2)):
        model = network("cuda")
        model[2] = Theirs()
        made = Trainer(model, batch_size=8, seed=1, graph=wanted)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            made.fit(images(), epochs=1)
        assert replays(made) == expected


def test_steps_that_are_looked_at_or_gathered_are_eager(cupy):
    made = trainer(accumulate=2)
    made.fit(images(), epochs=3)
    assert replays(made) == 0
    with pytest.raises(ValueError, match="graph is True with accumulate 2"):
        trainer(accumulate=2, graph=True)
    made = trainer()
    with nn.watch(lambda module, output: None):
        made.fit(images(), epochs=2)
    assert replays(made) == 0


def test_a_loss_that_is_not_finite_is_noticed_and_never_saved(cupy, tmp_path):
    x, y = images()
    made = trainer(out=tmp_path / "run")
    made.fit((x, y), epochs=2)
    before = (tmp_path / "run" / "checkpoint.safetensors").read_bytes()
    x[5] = np.nan
    with pytest.raises(NonFiniteError, match="the loss became nan in epoch 3, within its first 32 samples"):
        made.fit((x, y), epochs=1)
    assert (tmp_path / "run" / "checkpoint.safetensors").read_bytes() == before


def test_out_of_memory_leaves_the_checkpoint(cupy, tmp_path, monkeypatch):
    class OutOfMemoryError(MemoryError):
        pass

    made = trainer(out=tmp_path / "run")
    made.fit(images(), epochs=1)
    before = (tmp_path / "run" / "checkpoint.safetensors").read_bytes()

    def full(*_):
        raise OutOfMemoryError("Out of memory allocating 1,024 bytes")

    monkeypatch.setattr(nn.MaxPool2d, "forward", full)
    made._graphs.wanted = False
    with pytest.raises(OutOfMemoryError, match="1,024 bytes"):
        made.fit(images(), epochs=1)
    assert (tmp_path / "run" / "checkpoint.safetensors").read_bytes() == before


def test_prediction_evaluation_and_averages(cupy):
    average, swa = ExponentialMovingAverage(), StochasticWeightAveraging(1)
    ends = []
    for device in ("cuda", "cpu"):
        average, swa = ExponentialMovingAverage(), StochasticWeightAveraging(1)
        made = trainer(device, callbacks=[average, swa])
        made.fit(images(), epochs=2)
        with average.applied(made.model):
            row = made.evaluate(images(13, seed=2))
        swa.copy_to(made.model)
        recompute_bn(made.model, [images()])
        outputs = made.predict(images(13, seed=2)[0])
        assert type(outputs) is np.ndarray
        ends.append([*row.values(), outputs])
    for ours, theirs in zip(*ends):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_a_range_test_leaves_the_model_as_it_was(cupy):
    made = trainer(scheduler=False)
    made.fit(images(), epochs=2)
    before = {name: array.get() for name, array in made.model.state_dict().items()}
    found = nnk.train.lr_range_test(made, images(), start=1e-4, end=1e-2, steps=6)
    assert len(found.losses) == 6
    for name, array in made.model.state_dict().items():
        np.testing.assert_array_equal(array.get(), before[name])


def test_the_gradients_are_those_of_the_last_step(cupy):
    ends = []
    for wanted in (None, False):
        ends.append(trainer(graph=wanted))
        ends[-1].fit(images(), epochs=3)
    for ours, theirs in zip(*(made.model.parameters() for made in ends)):
        np.testing.assert_array_equal(ours.grad.get(), theirs.grad.get())


def test_a_capture_has_a_stream_and_a_pool_of_its_own(cupy, monkeypatch):
    allocators = []
    monkeypatch.setattr(cupy.cuda, "using_allocator", lambda malloc: allocators.append(malloc) or cupy.no_context())
    array, seen = cupy.asarray(np.zeros(3)), []

    def work():
        seen.append(cupy.cuda.current)
        array.__iadd__(1)

    captured = graph.Capture(work)
    assert seen[0].non_blocking
    assert cupy.cuda.current is cupy.Stream.null
    assert allocators == [captured.pool.malloc]
    assert captured.pool is not cupy.get_default_memory_pool()
    assert array.get().tolist() == [0, 0, 0]
    for expected in (1, 2):
        captured.launch()
        assert array.get().tolist() == [expected] * 3


def test_a_capture_that_fails_is_ended(cupy):
    array = cupy.asarray(np.zeros(3))
    with pytest.raises(RuntimeError, match="not permitted when stream is capturing"):
        graph.Capture(array.get)
    assert cupy.State.tape is None
    assert cupy.cuda.current is cupy.Stream.null
    array.get()
