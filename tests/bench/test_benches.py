"""The benches run, on so few samples that their times mean nothing."""

import json
import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from nnk.kernels import cpu, parity
from nnk.kernels.ops import OPS

BENCH = Path(__file__).parents[2] / "bench"
BENCHES = ("cpu_conv", "cpu_ops", "cpu_step", "cpu_infer")
DRAWS = {"dropout", "image_noise"}  # each library has random numbers of its own

each_op = pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)


@each_op
def test_bench_shapes_have_names_and_a_cost(op):
    names = [case.name for case in op.suite.bench]
    assert len(set(names)) == len(names) > 0
    inputs = parity.make_inputs(op.suite.cases[0], np.float32)
    assert set(op.suite.cost(**inputs)) == set(op.functions)


@each_op
def test_peers_compute_the_same(op):
    pytest.importorskip("torch")
    import peers

    assert all(hasattr(peers, function) for function in op.functions)
    between = {"indices", "lse", "scale", "var"}  # what forward leaves for backward, each library in its own form
    case = op.suite.cases[0]
    inputs = parity.make_inputs(case, np.float32)
    for layout in peers.FORMATS:
        theirs = op.suite.run(peers, **{name: peers.tensors(value, layout) for name, value in inputs.items()})
        ours = op.suite.run(cpu, **parity.make_inputs(case, np.float32))
        assert theirs.keys() == ours.keys()
        for name in set() if op.name in DRAWS else ours.keys() - between:
            np.testing.assert_allclose(ours[name], theirs[name].numpy(), rtol=1e-4, atol=1e-5, err_msg=name)


@each_op
def test_every_function_of_every_op_is_measured(op, quickly):
    import cpu_ops
    import harness

    session = SimpleNamespace(peers=None, threads=[1], use=lambda threads: None)
    rows = list(cpu_ops.measure(op, op.suite.cases[0], session, harness.Budget(0, 1)))
    assert [row.name for row in rows][: len(op.functions)] == list(op.functions)
    assert len(rows) == cpu_ops.rows_per_case(op)
    for row in rows:
        assert row.bytes > 0
        assert row.flops > 0
        assert math.isfinite(row.ours.median)
        assert row.ratio() is None


def test_layers_are_those_of_the_networks():
    import cpu_conv
    import targets

    groups = {layer.group for layer in cpu_conv.LAYERS.values()}
    assert groups == {targets.CONV_3X3, targets.CONV_OTHER, targets.CONV_DEPTHWISE}
    counts = {network: sum(layer.network == network for layer in cpu_conv.LAYERS.values())
              for network in ("resnet50", "vgg16", "mobilenet")}
    assert counts == {"resnet50": 23, "vgg16": 9, "mobilenet": 19}
    weights = {name: math.prod(layer.inputs()["weight"].shape) for name, layer in cpu_conv.LAYERS.items()
               if layer.network == "cifar"}
    assert weights["cifar 3×3 512→512 4²"] == 9 * 512 * 512
    assert set(cpu_conv.QUICK) <= cpu_conv.LAYERS.keys()


@pytest.mark.parametrize(
    ("layer", "versions"),
    [({"channels": 32, "filters": 32, "size": 8}, 2), ({"channels": 8, "filters": 8, "size": 6, "groups": 8}, 1)],
)
def test_a_layer_is_measured_in_all_directions(layer, versions, quickly):
    pytest.importorskip("torch")
    import contest
    import cpu_conv
    import harness

    session = SimpleNamespace(peers=contest.load_peers(), threads=[1, 2], use=lambda threads: None)
    rows = list(cpu_conv.measure(cpu_conv.Layer("net", 1, **layer), session, harness.Budget(0, 1)))
    assert len(rows) == 3 * 2 * versions
    assert all(row.peers.keys() == {"torch contiguous", "torch channels_last"} for row in rows)


def test_results_that_differ_stop_the_bench(monkeypatch, quickly):
    pytest.importorskip("torch")
    import contest
    import cpu_conv
    import harness

    peers = contest.load_peers()
    monkeypatch.setattr(peers, "conv2d", lambda *args, wrong=peers.conv2d, **kwargs: 1.01 * wrong(*args, **kwargs))
    session = SimpleNamespace(peers=peers, threads=[1], use=lambda threads: None)
    with pytest.raises(RuntimeError, match=r"conv2d on net 3×3 32→32 8², torch contiguous: the results differ"):
        list(cpu_conv.measure(cpu_conv.Layer("net", 1, 32, 32, 8), session, harness.Budget(0, 1)))


def test_libraries_take_the_same_training_steps():
    pytest.importorskip("torch")
    from workload import OPTIMIZERS, Workload

    for network in ("digits_cnn", "resnet20"):
        for optimizer in OPTIMIZERS:
            workload = Workload(network, 4, optimizer)
            losses = []
            for library in ("nnk", "torch contiguous", "torch channels_last"):
                step = workload.start(library)
                losses.append([step() for _ in range(3)])
            np.testing.assert_allclose(losses[0], losses[1], rtol=1e-3)
            np.testing.assert_allclose(losses[1], losses[2], rtol=1e-3)
            assert losses[0][2] < losses[0][0]


def test_jax_takes_the_same_training_steps():
    pytest.importorskip("jax")
    from workload import OPTIMIZERS, Workload

    for optimizer in OPTIMIZERS:
        workload = Workload("digits_cnn", 4, optimizer)
        ours, theirs = workload.start("nnk"), workload.start("jax")
        for _ in range(3):
            np.testing.assert_allclose(ours(), theirs(), rtol=1e-4)


def test_twins_exchange_weights():
    torch = pytest.importorskip("torch")
    from step_torch import twin
    from workload import BATCHES, Workload

    for network in BATCHES:
        ours = Workload(network, 2, "SGD").model()
        theirs = twin(ours)
        for parameter in theirs.parameters():
            torch.nn.init.normal_(parameter, std=0.05)
        ours.load_state_dict(theirs.state_dict())
        x = Workload(network, 2, "SGD").data()[0]
        np.testing.assert_allclose(
            ours.eval()(x), theirs.eval()(torch.from_numpy(x)).detach().numpy(), rtol=1e-3, atol=1e-5
        )


def test_a_step_is_measured_beside_its_peers(monkeypatch, quickly):
    pytest.importorskip("torch")
    import contest
    import cpu_step
    import harness
    from workload import Workload

    monkeypatch.setattr(cpu_step, "find_spec", lambda name: None)
    session = SimpleNamespace(peers=contest.load_peers(), threads=[1], use=lambda threads: None)
    workload = Workload("digits_cnn", 4, "SGD")
    (row,) = cpu_step.measure(workload, session, harness.Budget(0, 1))
    assert row.peers.keys() == {"torch contiguous", "torch channels_last"}
    memory = cpu_step.memory(workload, row)["bytes"]
    assert memory.keys() == {"nnk", "torch"}
    assert all(20e6 < peak < 4e9 for peak in memory.values())


@pytest.mark.parametrize("name", ["resnet20", "mobilenet"])
def test_inference_is_measured_beside_its_peers(name, quickly):
    pytest.importorskip("torch")
    import contest
    import cpu_infer
    import harness

    session = SimpleNamespace(peers=contest.load_peers(), threads=[1], use=lambda threads: None)
    (row,) = cpu_infer.measure(cpu_infer.Network(name, 2), session, harness.Budget(0, 1))
    assert row.peers.keys() == {
        f"torch {layout}{folded}" for layout in ("contiguous", "channels_last") for folded in ("", " folded")
    }


def test_outputs_that_differ_stop_the_bench(monkeypatch, quickly):
    pytest.importorskip("torch")
    import contest
    import cpu_infer
    import harness

    monkeypatch.setattr(cpu_infer, "ours", lambda network: lambda: np.ones((1, 10), np.float32))
    session = SimpleNamespace(peers=contest.load_peers(), threads=[1], use=lambda threads: None)
    with pytest.raises(RuntimeError, match="the outputs of torch contiguous differ"):
        list(cpu_infer.measure(cpu_infer.Network("resnet20", 1), session, harness.Budget(0, 1)))


def test_torch_folds_every_batch_norm():
    torch = pytest.importorskip("torch")
    import infer_torch
    from step_torch import twin

    from nnk import models

    model = infer_torch.folded(twin(models.create("resnet18", (3, 32, 32), 10)).eval())
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules())


def test_losses_that_differ_stop_the_bench(monkeypatch, quickly):
    import cpu_step
    import harness
    from workload import Workload

    monkeypatch.setattr(cpu_step, "find_spec", lambda name: None)
    monkeypatch.setattr(Workload, "start", lambda self, library: lambda: 1.0 if library == "nnk" else 1.1)
    session = SimpleNamespace(peers=SimpleNamespace(FORMATS=["contiguous"]), threads=[1], use=lambda threads: None)
    with pytest.raises(RuntimeError, match="losses"):
        list(cpu_step.measure(Workload("digits_cnn", 4, "SGD"), session, harness.Budget(0, 1)))


def test_the_command_writes_what_it_measured(tmp_path, quickly, capsys):
    import cpu_ops

    out = tmp_path / "new" / "ops.json"
    cpu_ops.main(["--quick", "--only", "linear", "--threads", "1", "--out", str(out)])
    content = json.loads(out.read_text(encoding="utf-8"))
    assert content["command"].startswith("python bench/cpu_ops.py --quick --only linear")
    functions = [row["name"] for row in content["rows"]]
    assert functions == ["linear", "linear_dgrad", "linear_wgrad", "linear_bgrad"]
    printed = capsys.readouterr().out
    assert all(name in printed for name in functions)


def test_only_a_complete_run_is_kept(tmp_path, monkeypatch):
    import record
    import session

    monkeypatch.setattr(record, "RESULTS", tmp_path)

    def out(*arguments):
        return session.Session("cpu_x", "", 1, ["a", "b"], ["a"], arguments).out

    assert out() == tmp_path / "cpu_x.json"
    for arguments in (["--quick"], ["--only", "a"], ["--threads", "1"]):
        assert out(*arguments) is None
        assert out(*arguments, "--out", "x.json") == Path("x.json")


def test_labels_are_chosen_by_a_part_of_their_names():
    import session

    def labels(*arguments):
        return session.Session("cpu_x", "", 1, ["net a", "net b", "c"], ["c"], arguments).labels

    assert labels() == ["net a", "net b", "c"]
    assert labels("--quick") == ["c"]
    assert labels("--only", "net") == ["net a", "net b"]
    assert labels("--only", "b", "--only", "c", "--quick") == ["net b", "c"]


@pytest.mark.parametrize("bench", BENCHES)
@pytest.mark.parametrize("arguments", [["--only", "nonsense"], ["--threads", "0"], ["--threads", "two"]])
def test_bad_arguments(bench, arguments, capsys):
    module = __import__(bench)
    with pytest.raises(SystemExit):
        module.main(arguments)
    message = capsys.readouterr().err
    assert arguments[0] in message
    assert arguments[1] in message


def test_without_torch_there_is_no_peer(monkeypatch):
    import contest

    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "peers", raising=False)
    assert contest.load_peers() is None


@pytest.mark.parametrize("arguments", [["nonsense"], ["ops", "--only", "nonsense"]])
def test_python_m_bench_is_a_door(arguments):
    run = [sys.executable, "-m", "bench", *arguments]
    result = subprocess.run(run, cwd=BENCH.parent, capture_output=True, text=True, check=False)
    assert result.returncode != 0
    assert "nonsense" in result.stderr


@pytest.mark.parametrize("shapes", [False, True])
def test_a_profile_accounts_for_the_step(shapes):
    import step_profile
    from workload import Workload

    table = step_profile.profile(Workload("digits_cnn", 4, "SGD").start("nnk"), 2, shapes)
    lines = {line[0]: dict(zip(table[0], line)) for line in table[1:]}
    convolutions = [line for name, line in lines.items() if name.split()[0] == "conv2d"]
    assert sum(float(line["calls"]) for line in convolutions) == 4
    for line in lines.values():
        assert abs(float(line["ms"]) - float(line["kernel"]) - float(line["call"])) < 0.002
    assert float(lines["all operations"]["kernel"]) > 0
    shares = [float(lines[name]["share"].rstrip("%")) for name in ("all operations", "around them")]
    assert abs(sum(shares) - 100) < 0.2
    assert cpu.conv2d.__module__ == "nnk.kernels.cpu.conv2d"  # nothing watches any more
