"""The GPU benches, on a device that NumPy and the reference kernels stand in for: their times mean nothing."""

import json
import time
from types import SimpleNamespace

import numpy as np
import pytest

from nnk.kernels import reference
from nnk.kernels.ops import OPS

each_op = pytest.mark.parametrize("op", [op for op in OPS if op.name != "conv2d"], ids=lambda op: op.name)


@pytest.fixture
def gpu():
    import gpu

    class Stand(gpu.Clock):
        """What a `Gpu` offers, on the CPU."""

        device, xp, kernels, flushes = "cpu", np, reference, 0

        def mark(self):
            return time.perf_counter()

        def seconds(self, start, end):
            return end - start

        def flush(self):
            self.flushes += 1

        def wait(self):
            pass

        def free(self):
            pass

        def tensor_cores(self, dtype, precision):
            return False

        def rungs(self, calls):
            return {}

        def available(self):
            return 10**9

        def nothing(self):
            return lambda number: None

        def dtypes(self):
            return ["float32", "float16"]

        array, normal = gpu.Gpu.array, gpu.Gpu.normal

        def facts(self):
            return {"gpu": "a stand-in"}

        def limits(self):
            return gpu.Limits(1e9, {"highest": 1e9, "float16": 1e9})

    return Stand()


@pytest.fixture
def small(monkeypatch):
    """Small shapes and few samples."""
    import gpu_ops

    monkeypatch.setattr(gpu_ops, "SAMPLES", 2)
    monkeypatch.setattr(gpu_ops, "LEAST", 4000)
    monkeypatch.setattr(gpu_ops, "largest", lambda op: [op.suite.cases[0]])
    monkeypatch.setattr(gpu_ops, "resnet50_shapes", lambda: [(4, 3, 3, 3), (4,), (5, 7)])
    monkeypatch.setattr(gpu_ops, "COMPILED", ())


def a_row(ours=1.0, peers=(), **fields):
    from gpu_report import GpuRow
    from harness import Timing

    fields = {"group": "activation", "name": "f", "shape": "s", "dtype": "float32", "precision": "highest",
              "bytes": 10**9, "flops": 10, "queue": 1e-6} | fields
    timing = {name: Timing(t, t, t, 1) for name, t in {"ours": ours, **dict(peers)}.items()}
    return GpuRow(**fields, ours=timing.pop("ours"), peers=timing)


# ---------------------------------------------------------------- the clock
def test_calls_take_turns_on_a_cold_cache(gpu):
    order = []
    timings = gpu.interleave({name: lambda i, name=name: order.append((name, i)) for name in "ab"}, samples=3)
    assert order[4:] == [(name, i) for i in range(3) for name in "ab"]
    assert gpu.flushes == 6
    assert {timing.samples for timing in timings.values()} == {3}
    gpu.interleave({"a": order.append}, samples=3, cold=False)
    assert gpu.flushes == 6


def test_the_host_s_time_is_that_of_a_call(gpu):
    assert 2e-3 < gpu.queue(lambda number: time.sleep(2e-3), repeats=2) < 1


def test_limits_are_the_slower_of_two():
    from gpu import Limits

    limits = Limits(1e9, {"highest": 1e12})
    assert limits.least(2 * 10**9, 10**12, "highest") == 2.0
    assert limits.least(10**9, 3 * 10**12, "highest") == 3.0
    assert limits.least(10**9, 3 * 10**12, "tf32") == 1.0
    assert "copy 1 GB/s; products, TFLOP/s: highest 1.0" in str(limits)


class Memory:
    """An array as far as a `Gpu` fills and copies it."""

    def __init__(self, size, dtype):
        self.data, self.nbytes = self, size
        self.calls = []

    def memset_async(self, value, size):
        self.calls.append((value, size))

    def copy_from_device_async(self, source, size):
        self.calls.append((source, size))


def test_a_gpu_asks_cupy(monkeypatch):
    import sys
    import types

    import gpu

    events = iter(range(1000))
    properties = {"name": b"H100", "major": 9, "minor": 0, "multiProcessorCount": 132, "totalGlobalMem": 85 * 10**9,
                  "l2CacheSize": 50 * 10**6}
    runtime = SimpleNamespace(memGetInfo=lambda: (3 * 2**30, 4 * 2**30), getDevice=lambda: 0,
                              getDeviceProperties=lambda device: properties, driverGetVersion=lambda: 13000,
                              runtimeGetVersion=lambda: 13000)
    cupy = types.ModuleType("cupy")
    cupy.__version__ = "13.6.0"
    cupy.empty = cupy.ones = Memory
    cupy.get_default_memory_pool = lambda: SimpleNamespace(free_all_blocks=lambda: None)
    cupy.cuda = SimpleNamespace(
        runtime=runtime, Event=lambda: SimpleNamespace(record=lambda: next(events)),
        get_elapsed_time=lambda start, end: 2.0, get_current_stream=lambda: SimpleNamespace(synchronize=lambda: None),
    )
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setattr(gpu, "find_spec", lambda name: None)
    device = gpu.Gpu()
    assert device._flushed.nbytes == 3 * 2**30 // 16
    assert device.facts() == {"gpu": "H100", "capability": "9.0", "multiprocessors": 132, "memory_gb": 85.0,
                              "l2_mb": 50.0, "driver_cuda": 13000, "runtime_cuda": 13000}
    assert device.limits() == gpu.Limits(2 * gpu.COPIED / 2e-3, {})
    assert device._flushed.calls == [(0, device._flushed.nbytes)] * 10
    assert device.available() == 3 * 2**30
    assert device.dtypes() == ["float32", "float16"]
    assert device.interleave({"a": lambda number: None}, samples=2)["a"].median == 2e-3
    device.free()


@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4, 5)])
def test_arrays_go_to_the_device_with_their_shape(gpu, shape):
    x = np.random.default_rng(0).standard_normal(shape[::-1], np.float32).T
    y = gpu.array(x)
    assert y.shape == shape
    np.testing.assert_array_equal(y, x)
    assert len(shape) < 4 or y.transpose(0, 2, 3, 1).flags.c_contiguous
    assert gpu.normal((5, 2), "float16").dtype == np.float16


# ---------------------------------------------------------------- operations
def test_batch_norm_is_pytorch_s_choice_on_a_gpu():
    torch = pytest.importorskip("torch")
    import peers

    x, dy = torch.randn(4, 3, 5, 5), torch.randn(4, 3, 5, 5)
    weight, bias, mean, var = torch.rand(4, 3)
    running = mean.clone(), var.clone()
    y, *saved = peers.batch_norm_train(x, weight, bias, mean, var, momentum=0.1, eps=1e-5)
    chosen, *chosen_saved = peers._chosen_batch_norm(x, weight, bias, *running, 0.1, 1e-5)
    torch.testing.assert_close(y, chosen)
    torch.testing.assert_close(mean, running[0])
    torch.testing.assert_close(peers.batch_norm_train_backward(dy, x, weight, *saved),
                               peers.batch_norm_train_backward(dy, x, weight, *chosen_saved))


@each_op
def test_every_function_of_every_op_is_measured(op, gpu, small):
    pytest.importorskip("torch")
    import contest
    import gpu_ops

    out, peers = {}, contest.load_peers()
    session = SimpleNamespace(gpu=gpu, leave_out=out.__setitem__, has_time=lambda what, seconds: True)
    for dtype in gpu.dtypes():
        rows = list(gpu_ops.measure(op, op.suite.cases[0], dtype, session, peers))
        assert [row.name for row in rows][: len(op.functions)] == list(op.functions)
        for row in rows:
            assert row.bytes > 0
            assert row.group in gpu_ops.gpu_report.TARGETS
            assert dtype != "float32" or any(name.startswith("torch") for name in row.peers), out


def test_shapes_grow_along_the_batch_alone(gpu, monkeypatch):
    import gpu_ops

    ops = {op.name: op for op in OPS}
    monkeypatch.setattr(gpu_ops, "LEAST", 1_000_000)
    inputs, name = gpu_ops.host_inputs(ops["batch_norm_train"], ops["batch_norm_train"].suite.cases[0], "float16")
    assert name.startswith("4d, batch × ")
    assert inputs["x"].nbytes >= 1_000_000
    assert inputs["x"].shape[1:] == (3, 5, 7)
    assert inputs["x"].strides[1] == 2
    assert inputs["x"].shape == inputs["dy"].shape
    assert {inputs[key].dtype for key in ("x", "dy")} == {np.dtype(np.float16)}
    assert {(inputs[key].shape, inputs[key].dtype) for key in gpu_ops.VECTORS} == {((3,), np.dtype(np.float32))}
    inputs, _ = gpu_ops.host_inputs(ops["cross_entropy"], ops["cross_entropy"].suite.cases[0], "float32")
    assert inputs["target"].shape == inputs["x"].shape[:1]
    assert inputs["target"].dtype == np.int64


def test_optimisers_get_the_parameters_of_resnet50():
    import gpu_ops

    shapes = gpu_ops.resnet50_shapes()
    assert (len(shapes), sum(int(np.prod(shape)) for shape in shapes)) == (161, 25_557_032)
    ops = {op.name: op for op in OPS}
    small = [(3, 2), (5,)]
    like = gpu_ops._like([ops["adam"].suite.cases[0].make(np.random.default_rng(0))["grads"][0]], small)
    assert [[x.shape for x in step] for step in like] == [small]


def test_what_has_a_target_comes_first():
    import gpu_ops

    plan = [(op.name, dtype) for op, dtype in gpu_ops.plan(["elu", "relu", "adam"], ["float32", "float16"])]
    assert plan == [("relu", "float32"), ("relu", "float16"), ("adam", "float32"), ("adam", "float16"),
                    ("elu", "float32"), ("elu", "float16")]
    assert set(gpu_ops.TARGETED) <= gpu_ops.MEASURED.keys()
    assert set(gpu_ops.COMPILED) <= set(gpu_ops.TARGETED)


def test_a_run_writes_what_it_measured(gpu, small, tmp_path, capsys):
    import gpu_ops
    import gpu_report

    out = tmp_path / "gpu_ops.json"
    assert gpu_ops.main(["--only", "relu6", "--out", str(out)], gpu=gpu) == 0
    run = json.loads(out.read_text(encoding="utf-8"))
    assert run["command"].startswith("python bench/gpu_ops.py --only relu6")
    assert {(row["name"], row["dtype"]) for row in run["rows"]} == {
        ("nothing", "float32"), *((name, dtype) for name in ("relu6", "relu6_backward") for dtype in gpu.dtypes())
    }
    assert run["left out"] == {"bfloat16": "needs CuPy 14 and ml_dtypes"}
    assert "a stand-in" in capsys.readouterr().out
    rows = gpu_report.rows_of(json.loads(json.dumps(run)))
    assert [row.ours.median for row, _ in rows] == [row["ours"]["median"] for row in run["rows"]]
    gpu_report.main(["--rows", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "relu6_backward" in printed
    assert "queue ≤ 3 µs" in printed


def test_a_failure_is_told_and_the_rest_is_measured(gpu, small, tmp_path, monkeypatch, capsys):
    import gpu_ops

    def broken(x, *, out=None):
        raise ValueError("no such\nluck")

    kernels = SimpleNamespace(__name__="kernels", relu6=broken, relu6_backward=None, tanh=reference.tanh,
                              tanh_backward=reference.tanh_backward)
    gpu.kernels = kernels
    out = tmp_path / "gpu_ops.json"
    assert gpu_ops.main(["--only", "relu6", "--only", "tanh", "--out", str(out)], gpu=gpu) == 1
    run = json.loads(out.read_text(encoding="utf-8"))
    assert run["failed"] == {f"relu6 in {dtype}": "ValueError: no such" for dtype in gpu.dtypes()}
    assert sum(row["name"] == "tanh" for row in run["rows"]) == 2
    assert "failed: relu6 in float32: ValueError: no such" in capsys.readouterr().out


def test_ops_without_kernels_are_left_out(gpu, small, tmp_path):
    import gpu_ops

    class Kernels:
        __name__ = "nnk.kernels.cuda"

        def __getattr__(self, name):
            raise ModuleNotFoundError(name="nnk.kernels.cuda.activation")

    gpu.kernels = Kernels()
    out = tmp_path / "gpu_ops.json"
    assert gpu_ops.main(["--only", "relu6", "--out", str(out)], gpu=gpu) == 0
    assert json.loads(out.read_text(encoding="utf-8"))["left out"]["relu6"] == "no CUDA kernels yet"


def test_when_the_time_is_up_the_rest_is_left_out(gpu, small, tmp_path):
    import gpu_ops

    out = tmp_path / "gpu_ops.json"
    assert gpu_ops.main(["--only", "relu6", "--seconds", "0", "--out", str(out)], gpu=gpu) == 0
    run = json.loads(out.read_text(encoding="utf-8"))
    assert run["left out"]["relu6 in float16"] == "no time was left"
    assert [row["name"] for row in run["rows"]] == ["nothing"]


# ---------------------------------------------------------------- convolutions
@pytest.fixture
def layer(monkeypatch):
    """One small layer is all."""
    import gpu_conv
    from cpu_conv import Layer

    monkeypatch.setattr(gpu_conv, "SAMPLES", 2)
    layer = Layer("net", 2, 3, 4, 6, stride=2)
    monkeypatch.setattr(gpu_conv, "layers", lambda: {layer.name: layer})
    return layer


def test_a_layer_of_a_network_with_batch_norm_is_measured_with_it(gpu, layer, monkeypatch, tmp_path):
    pytest.importorskip("torch")
    import gpu_conv

    monkeypatch.setattr(gpu_conv, "NORMALISED", (layer.network,))
    out = tmp_path / "gpu_conv.json"
    assert gpu_conv.main(["--out", str(out)], gpu=gpu) == 0
    forward, _, _, row = json.loads(out.read_text(encoding="utf-8"))["rows"]
    assert row["group"] == "convolution, batch norm and ReLU in training"
    assert row["peers"].keys() == {"torch channels_last"}
    assert 0 < row["more"]["error"]["ours"] < 1e-5
    assert row["bytes"] == forward["bytes"] + 2 * 4 * 2 * 4 * 3 * 3


def test_layers_of_all_networks_take_turns():
    import gpu_conv

    found = list(gpu_conv.layers().values())
    assert {layer.network for layer in found[: len(gpu_conv.BATCHES)]} == gpu_conv.BATCHES.keys()
    assert all(layer.n == gpu_conv.BATCHES[layer.network] for layer in found)
    assert len(found) == 23 + 9 + 12 + 9 + 12
    depthwise = [layer for layer in found if layer.groups > 1]
    assert {layer.network for layer in depthwise} == {"mobilenet", *gpu_conv.DEPTHWISE}
    assert {(layer.kernel, layer.stride) for layer in depthwise} == {(3, 1), (3, 2), (5, 1), (5, 2), (7, 1)}


def test_a_layer_is_measured_in_what_the_backend_offers(gpu, layer, tmp_path):
    pytest.importorskip("torch")
    import gpu_conv

    out = tmp_path / "gpu_conv.json"
    assert gpu_conv.main(["--out", str(out)], gpu=gpu) == 0
    run = json.loads(out.read_text(encoding="utf-8"))
    assert [row["group"] for row in run["rows"]] == [
        f"convolution, highest, {direction}" for direction in ("forward", "input gradient", "weight gradient")
    ]
    assert all(row["peers"].keys() == {"torch channels_last"} for row in run["rows"])
    assert all(0 < error < 1e-5 for row in run["rows"] for error in row["more"]["error"].values())
    assert run["left out"]["convolutions in tf32"] == "the backend has strict float32 alone for it"
    gpu.tensor_cores = lambda dtype, precision: True
    assert gpu_conv.main(["--out", str(out)], gpu=gpu) == 0
    run = json.loads(out.read_text(encoding="utf-8"))
    assert {row["precision"] for row in run["rows"]} == {"highest", "tf32", "float16"}
    assert run["left out"] == {"convolutions in bfloat16": "no arrays of bfloat16 can be made here"}


def test_kernels_that_are_not_chosen_are_measured_too(gpu, layer, tmp_path):
    pytest.importorskip("torch")
    import gpu_conv

    gpu.tensor_cores = lambda dtype, precision: True
    gpu.rungs = lambda calls: {"mma": calls, "wgmma": {"conv2d": calls["conv2d"]}}
    out = tmp_path / "gpu_conv.json"
    assert gpu_conv.main(["--out", str(out)], gpu=gpu) == 0
    rows = json.loads(out.read_text(encoding="utf-8"))["rows"]
    assert [row["group"] for row in rows if row["precision"] == "tf32"] == [
        "convolution, tf32, forward", "convolution on mma", "convolution on wgmma",
        "convolution, tf32, input gradient", "convolution on mma",
        "convolution, tf32, weight gradient", "convolution on mma",
    ]  # fmt: skip
    assert not any(" on " in row["group"] for row in rows if row["precision"] == "highest")
    assert all(row["peers"].keys() == {"torch channels_last"} for row in rows)


def test_a_rung_stands_for_the_table_while_it_is_called():
    from gpu import Rung

    tuned, can = {}, [("tma", (128, 256)), ("mma", (64, 64)), ("mma", (32, 32))]
    chooser = SimpleNamespace(
        _tables={3: tuned}, device=lambda: 3, load=lambda device: chooser._tables[device], Work=lambda *work: work,
        _arithmetic=SimpleNamespace(capability=lambda: (9, 0)), candidates=lambda work, capability: can)
    asked = []

    def call(number):
        asked.append(chooser._tables[3].get(("product", number)))

    mma = Rung("mma", chooser).holding(call)
    mma(1)
    assert asked == [("mma", (64, 64))] * 2
    assert chooser._tables == {3: tuned}
    assert Rung("wgmma", chooser).holding(call) is None


def test_depthwise_layers_are_held_against_the_copy_rate(gpu, monkeypatch, tmp_path):
    pytest.importorskip("torch")
    import gpu_conv
    from cpu_conv import Layer

    monkeypatch.setattr(gpu_conv, "SAMPLES", 2)
    layer, out = Layer("mobilenet", 2, 4, 4, 6, stride=2, groups=4), tmp_path / "gpu_conv.json"
    monkeypatch.setattr(gpu_conv, "layers", lambda: {layer.name: layer})
    gpu.tensor_cores = lambda dtype, precision: True
    assert gpu_conv.main(["--out", str(out)], gpu=gpu) == 0
    rows = json.loads(out.read_text(encoding="utf-8"))["rows"]
    assert [row["group"] for row in rows[:3]] == [
        f"depthwise 3×3, {direction}" for direction in ("forward", "input gradient", "weight gradient")
    ]
    assert {row["precision"] for row in rows} == {"highest", "float16"}  # in TF32 they are the same
    for row in rows:
        assert row["peers"].keys() == {"torch channels_last", "torch contiguous"}
        assert row["share"] > 0


def test_convolutions_that_differ_have_failed(gpu, layer, tmp_path):
    pytest.importorskip("torch")
    import gpu_conv

    wrong = lambda *args, **kwargs: 1.01 * reference.conv2d(*args, **kwargs)  # noqa: E731
    gpu.kernels = SimpleNamespace(__name__="kernels", conv2d=wrong, **{
        name: getattr(reference, name) for name in ("conv2d_dgrad", "conv2d_wgrad", "conv2d_bgrad")})
    out = tmp_path / "gpu_conv.json"
    assert gpu_conv.main(["--out", str(out)], gpu=gpu) == 1
    (why,) = json.loads(out.read_text(encoding="utf-8"))["failed"].values()
    assert why == "RuntimeError: conv2d on net 3×3/2 3→4 6²: the results are 1.0e-02 off, not 1e-04 of their RMS"


# ---------------------------------------------------------------- training steps
@pytest.fixture
def steps(monkeypatch):
    """Steps of a small network, a few."""
    import gpu_step
    from workload import Workload

    monkeypatch.setattr(gpu_step, "SAMPLES", 2)
    monkeypatch.setattr(gpu_step, "SAMPLE", 1e-3)
    monkeypatch.setattr(gpu_step, "COMPILING", {"digits_cnn": float("inf")})
    workload = Workload("digits_cnn", 4, "SGD")
    monkeypatch.setattr(gpu_step, "WORKLOADS", {workload.name: workload})
    return gpu_step


def test_steps_are_measured_beside_torch(gpu, steps, tmp_path, capsys):
    pytest.importorskip("torch")
    import gpu_report

    import nnk

    before, out = nnk.get_precision(), tmp_path / "gpu_step.json"
    assert steps.main(["--only", "digits", "--out", str(out)], gpu=gpu) == 0
    assert nnk.get_precision() == before
    run = json.loads(out.read_text(encoding="utf-8"))
    assert "no time was left" in run["left out"]["torch.compile of digits_cnn in float32"]
    assert "steps in tf32" in run["left out"]
    for row in run["rows"]:
        assert row["peers"].keys() == {"torch contiguous", "torch channels_last"}
        assert row["dtype"] == "float32"
        assert row["queue"] > 0
        assert row["more"]["s to the first step"].keys() == {"ours", *row["peers"]}
    gpu_report.main([str(tmp_path)])
    printed = capsys.readouterr().out
    assert "GB of memory" in printed
    assert "training step" in printed


def test_first_losses_that_differ_have_failed(gpu, steps, tmp_path, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setattr(steps.Theirs, "loss", lambda self: 100.0)
    out = tmp_path / "gpu_step.json"
    assert steps.main(["--only", "digits", "--out", str(out)], gpu=gpu) == 1
    (why,) = json.loads(out.read_text(encoding="utf-8"))["failed"].values()
    assert "100.0 in torch contiguous" in why


def test_eager_steps_are_measured_where_graphs_fail(gpu, steps, tmp_path, monkeypatch):
    class Ours(steps.Ours):
        def __init__(self, workload, gpu, options):
            if options["graph"]:
                raise RuntimeError("it cannot be captured")
            super().__init__(workload, gpu, options)

    monkeypatch.setattr(steps, "Ours", Ours)
    monkeypatch.setattr(steps, "graph_options", lambda: [("graph", {"graph": True}), ("eager", {"graph": False})])
    monkeypatch.setattr(steps, "find_spec", lambda name: None)
    out = tmp_path / "gpu_step.json"
    assert steps.main(["--only", "digits", "--out", str(out)], gpu=gpu) == 1
    run = json.loads(out.read_text(encoding="utf-8"))
    assert list(run["failed"].values()) == ["RuntimeError: it cannot be captured"]
    assert [row["name"] for row in run["rows"]] == ["step, eager"]


def test_precisions_of_steps_are_those_of_backend_and_trainer(gpu, monkeypatch):
    import gpu_step

    out = {}
    session = SimpleNamespace(gpu=gpu, leave_out=out.__setitem__)
    assert list(gpu_step.modes(session)) == ["float32"]
    assert out.keys() == {"steps in tf32", "steps in bfloat16"}
    gpu.tensor_cores = lambda dtype, precision: True
    monkeypatch.setattr(gpu_step.train, "Trainer", lambda model, precision=None: None)
    assert list(gpu_step.modes(session)) == ["float32", "tf32", "bfloat16"]


def test_steps_are_repeated_as_a_graph_on_a_gpu(gpu, steps, monkeypatch):
    import importlib.util
    import sys
    from pathlib import Path

    path = Path(__file__).parents[1] / "cuda" / "fake_cupy.py"
    spec = importlib.util.spec_from_file_location("fake_cupy", path)
    cupy = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "fake_cupy", cupy)
    spec.loader.exec_module(cupy)
    cupy.install(monkeypatch)
    gpu.device, gpu.array = "cuda", cupy.asarray
    (workload,) = steps.WORKLOADS.values()
    losses = {}
    for way, options in steps.graph_options():
        side, numbers, losses[way] = steps.begin(lambda options=options: steps.Ours(workload, gpu, options), gpu)
        assert bool(side.trainer._graphs.graphs) == (way == "graph")
        assert side.host() > 0
        assert numbers["s to the first step"] > 0
    assert losses["graph"] == losses["eager"]


def test_a_step_is_a_part_of_a_sample(steps):
    from harness import Timing

    assert steps.each(Timing(4.0, 2.0, 8.0, 5), 4) == Timing(1.0, 0.5, 2.0, 5)


def test_processes_are_timed_with_the_device_as_argument(steps, monkeypatch):
    import gpu_report

    commands = []
    monkeypatch.setattr(steps.subprocess, "run", lambda command, **options: commands.append(command[1:]))
    row = steps.start("cuda")
    assert row.group == gpu_report.START
    assert {(command[0].rpartition("first_step_")[2], command[1]) for command in commands} >= {("nnk.py", "cuda")}


def test_the_networks_of_the_steps_are_there():
    import gpu_step

    from nnk import models

    assert gpu_step.BATCHES.keys() <= set(models.names())
    assert gpu_step.BATCHES.keys() == gpu_step.COMPILING.keys()


# ---------------------------------------------------------------- the table
def test_ratios_are_to_all_peers_and_to_eager_ones():
    row = a_row(1.0, {"torch contiguous": 4.0, "torch channels_last": 2.0, "torch.compile": 0.5, "cupy": 3.0})
    assert (row.best(None), row.ratio(None), row.ratio()) == ("torch.compile", 2.0, 0.5)


@pytest.mark.parametrize(("ours", "verdict"), [(1.05, "pass"), (1.2, "miss")])
def test_a_class_is_held_against_its_target(ours, verdict):
    import gpu_report
    from gpu import Limits

    lines = gpu_report.table([(a_row(ours, {"torch contiguous": 1.5}), Limits(1e9, {}))])
    assert lines[1][0] == "activation"
    assert lines[1][-2:] == ["share ≥ 90%, best ≤ 1.00", verdict]


def test_without_a_peer_there_is_no_verdict():
    import gpu_report
    from gpu import Limits

    assert gpu_report.table([(a_row(), Limits(1e9, {}))])[1][-1] == ""


@pytest.mark.parametrize(("ours", "verdict"), [(1.4e-6, "pass"), (1.6e-6, "miss")])
def test_errors_are_held_against_the_peer_s(ours, verdict):
    import gpu_report
    from gpu import Limits

    row = a_row(1.0, {"torch channels_last": 1.0}, group=gpu_report.conv("highest", "forward"),
                more={"error": {"ours": ours, "torch channels_last": 1e-6}})
    line = gpu_report.table([(row, Limits(1e9, {}))])[1]
    assert line[-3:] == [f"{ours / 1e-6:.2f}", "best ≤ 1.25, error ≤ 1.5", verdict]
    assert gpu_report.beside([row]) == []


def test_classes_come_in_the_order_of_the_targets():
    import gpu_report
    from gpu import Limits

    names = list(gpu_report.TARGETS)
    rows = [(a_row(group=name, flops=0, bytes=0), Limits(1e9, {})) for name in reversed(names)]
    assert [line[0] for line in gpu_report.table(rows)[1:]] == names


def test_a_folder_without_runs(tmp_path, capsys):
    import gpu_report

    with pytest.raises(SystemExit):
        gpu_report.main([str(tmp_path)])
    assert "no gpu_*.json" in capsys.readouterr().err
