"""The benches run, on shapes so small that their times mean nothing."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nnk.kernels import cpu, parity
from nnk.kernels.cpu import _driver
from nnk.kernels.ops import OPS

BENCH = Path(__file__).parents[2] / "bench"
BARELY = {"seconds": 0.0, "least": 1}

each_op = pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """The benches are scripts: they import each other by file name."""
    monkeypatch.syspath_prepend(str(BENCH))


def test_samples_are_taken_in_turns():
    import harness

    order = []
    functions = {name: lambda name=name: order.append(name) for name in "ab"}
    timings = harness.interleave(functions, seconds=0.0, least=3)
    turns = [name for i, name in enumerate(order) if i == 0 or order[i - 1] != name]
    assert "".join(turns[-6:]) == "ababab"
    for timing in timings.values():
        assert timing.samples == 3
        assert 0 < timing.p20 <= timing.median <= timing.p80


def test_more_samples_until_the_time_is_up():
    import harness

    timings = harness.interleave({"a": lambda: None}, seconds=60.0, least=1, most=5)
    assert timings["a"].samples == 5


def test_ratio_and_share():
    import harness
    from roofline import Roofline

    timing = {name: harness.Timing(t, t, t, 1) for name, t in {"ours": 2.0, "slow": 8.0, "fast": 4.0}.items()}
    row = harness.Row("f", "shape", 100, 30, timing.pop("ours"), timing)
    assert (row.best_peer, row.ratio) == ("fast", 0.5)
    assert row.share(Roofline(bandwidth=100, peak=10)) == 1.5  # 3 s of arithmetic, 1 s of traffic
    alone = harness.Row("f", "shape", 100, 30, row.ours)
    assert alone.ratio is None
    assert "fast" not in harness.line(alone, Roofline(100, 10))


def test_roofline_is_positive():
    import roofline

    limits = roofline.measure(2, samples=1, floats=1 << 16, steps=1000)
    assert limits.bandwidth > 0
    assert limits.peak > 0


@each_op
def test_every_function_of_every_op_is_measured(op):
    import ops

    rows = ops.measure(op, op.suite.cases[0], None, **BARELY)
    assert [row.name for row in rows] == list(op.functions)
    for row in rows:
        assert row.bytes > 0
        assert row.flops > 0
        assert math.isfinite(row.ours.median)
        assert row.ratio is None


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
    case = op.suite.cases[0]
    inputs = parity.make_inputs(case, np.float32)
    for layout in peers.FORMATS:
        theirs = op.suite.run(peers, **{name: peers.tensors(value, layout) for name, value in inputs.items()})
        ours = op.suite.run(cpu, **parity.make_inputs(case, np.float32))
        assert theirs.keys() == ours.keys()
        for name in set() if op.name == "dropout" else ours.keys() - {"indices", "lse"}:
            np.testing.assert_allclose(ours[name], theirs[name].numpy(), rtol=1e-4, atol=1e-5, err_msg=name)


def test_the_command_writes_what_it_measured(tmp_path, monkeypatch, capsys):
    import ops
    import roofline

    monkeypatch.setattr(roofline, "measure", lambda threads, samples: roofline.Roofline(1e9, 1e9))
    out, before = tmp_path / "new" / "ops.json", _driver.get_num_threads()
    try:
        ops.main(["--quick", "--op", "linear", "--threads", "1", "--out", str(out)])
    finally:
        _driver.set_num_threads(before)
    content = json.loads(out.read_text(encoding="utf-8"))
    assert {"command", "date", "machine", "versions", "roofline"} <= content.keys()
    assert content["threads"] == 1
    functions = [row["function"] for row in content["rows"]]
    assert functions == ["linear", "linear_dgrad", "linear_wgrad", "linear_bgrad"]
    printed = capsys.readouterr().out
    assert all(name in printed for name in functions)


def test_without_torch_there_is_no_peer(monkeypatch):
    import ops

    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "peers", raising=False)
    assert ops.load_peers() is None


@pytest.mark.parametrize("arguments", [["--op", "nonsense"], ["--threads", "0"], ["--threads", "two"]])
def test_bad_arguments(arguments, capsys):
    import ops

    with pytest.raises(SystemExit):
        ops.main(arguments)
    message = capsys.readouterr().err
    assert arguments[0] in message
    assert arguments[1] in message


def test_python_m_bench_is_a_door():
    run = [sys.executable, "-m", "bench", "--op", "nonsense"]
    result = subprocess.run(run, cwd=BENCH.parent, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "nonsense" in result.stderr
