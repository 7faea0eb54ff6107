"""`nnk tune`: without a GPU it says so; in the simulator, with a clock of its own, it fills the table."""

import importlib.util
import re

import pytest

import nnk
import nnk.cli
from nnk import backend


@pytest.fixture
def on_the_simulator(simulator, monkeypatch, tmp_path):
    """The CUDA kernels of the simulator as a GPU; the second candidate of a shape is always twice as fast."""
    pytest.importorskip("ml_dtypes")
    chooser, tuner = backend.kernels("cuda._chooser"), backend.kernels("cuda._tuner")
    store = backend.kernels("cuda.launch").store

    class Clock(tuner.Clock):
        def __init__(self):
            pass

        def round(self, calls, number):
            return [2e-5, 1e-5, 3e-5][: len(calls)]

    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(chooser, "_tables", {})
    monkeypatch.setattr(tuner, "Clock", Clock)
    monkeypatch.setattr(backend, "cuda_problem", lambda: None)
    monkeypatch.setattr(backend, "asarray_on", lambda x, device: x)
    store.places.cache_clear()
    with nnk.use_backend("cuda"):
        yield tmp_path
    store.places.cache_clear()


SMALL = ["--model", "digits_cnn", "--batch-size", "1", "--size", "8"]


@pytest.mark.skipif(backend.cuda_problem() is None, reason="there is a GPU")
def test_cuda_tune_without_a_gpu(capsys):
    assert nnk.cli.main(["tune"]) == 1
    assert capsys.readouterr().err == f"nnk tune: error: there is no GPU to tune for: {backend.cuda_problem()}\n"


def test_cuda_tune_measures_prints_and_keeps(on_the_simulator, capsys):
    assert nnk.cli.main(["tune", *SMALL]) == 0
    first, heading, *rows, last = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"\d+ shapes with a choice of kernels, of \d+; at most 300 s", first)
    assert heading.split() == ["default", "best", "microseconds", "ratio", "shape"]
    shape = r"(product|wgrad) float32: [\dx ]+ by \dx\d to [\dx ]+"
    for row in rows:
        assert re.fullmatch(rf"(first|mma) [\dx]+ +(first|mma) [\dx]+ +20\.0 10\.0 +2\.00  {shape}", row)
    assert len(rows) == int(first.split()[0])
    (file,) = on_the_simulator.glob("cuda-*/tuned-simulator.json")
    kept = f"kept in {file} ({len(rows)} shapes); the last bits of results may differ from before"
    assert last == kept
    chooser = backend.kernels("cuda._chooser")
    table = chooser.stored(0)
    assert all(row.best != row.default for row in table.values())
    for work, row in table.items():
        assert chooser.choice(work, (8, 0)) == row.best  # at once, in this process too

    assert nnk.cli.main(["tune", *SMALL, "--precision", "bf16", "--seconds", "1000"]) == 0  # adds to the table
    out = capsys.readouterr().out
    assert "wgrad bfloat16 to " in out or "wgrad bfloat16:" in out
    assert len(chooser.stored(0)) > len(rows)
    assert table.items() <= chooser.stored(0).items()

    assert nnk.cli.main(["tune", "--clear"]) == 0
    assert capsys.readouterr().out == f"deleted {file}\n"
    assert nnk.cli.main(["tune", "--clear"]) == 0
    assert capsys.readouterr().out == "there were no tables\n"


def test_cuda_tune_for_common_networks(on_the_simulator, capsys, monkeypatch):
    monkeypatch.setattr(nnk.cli.tune, "COMMON", (("digits_cnn", 1, 8), ("digits_cnn", 1, 10)))
    assert nnk.cli.main(["tune", "--layers"]) == 0
    found = {work.x for work in backend.kernels("cuda._chooser").stored(0) if work.kind == "product"}
    assert {(1, 3, 8, 8), (1, 3, 10, 10)} <= found  # both first layers


def test_cuda_tune_stops_when_time_is_up(on_the_simulator, capsys):
    assert nnk.cli.main(["tune", *SMALL, "--seconds", "0"]) == 0
    out = capsys.readouterr().out
    assert re.match(r"(\d+) shapes with.*\n.*\n\1 shapes are left as they were: there was no time for them\n", out)
    assert out.endswith("nothing was measured\n")
    assert not list(on_the_simulator.glob("cuda-*/tuned-*"))


def test_cuda_tune_of_strict_float32_keeps_what_was_measured_before_ctrl_c(on_the_simulator, capsys, monkeypatch):
    tuner, rounds = backend.kernels("cuda._tuner"), []
    measure = tuner.Clock.round

    def stop(self, calls, number):
        rounds.append(number)
        if len(rounds) > 15:
            raise KeyboardInterrupt
        return measure(self, calls, number)

    monkeypatch.setattr(tuner.Clock, "round", stop)
    assert nnk.cli.main(["tune", *SMALL, "--precision", "highest"]) == 0
    assert "(1 shapes)" in capsys.readouterr().out
    ((work, row),) = backend.kernels("cuda._chooser").stored(0).items()
    assert work.kind == "strict product"
    assert row.default[0] == "first-ffma"
    assert nnk.get_precision() == "high"


@pytest.mark.skipif(importlib.util.find_spec("numba_cuda") is None, reason="numba-cuda is not installed")
@pytest.mark.parametrize(("arguments", "message"), [
    (["--layers", "--model", "lenet"], "--layers stands for networks of its own"),
    (["--model", "nothing"], "unknown model 'nothing'"),
])  # fmt: skip
def test_cuda_tune_mistakes(arguments, message, capsys, monkeypatch):
    monkeypatch.setattr(backend, "cuda_problem", lambda: None)
    assert nnk.cli.main(["tune", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_cuda_tune_counts(capsys):
    with pytest.raises(SystemExit):
        nnk.cli.main(["tune", "--batch-size", "0"])
    assert "expected an integer of at least 1, got '0'" in capsys.readouterr().err
