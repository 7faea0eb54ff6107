import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"


def loss_of(program):
    run = subprocess.run([sys.executable, BENCH / program], capture_output=True, text=True, check=True)
    assert run.stderr == ""
    return float(run.stdout)


def test_the_first_step_in_nnk():
    assert 1.5 < loss_of("first_step_nnk.py") < 4


@pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed")
def test_the_first_step_in_torch_is_that_of_the_same_network():
    assert 1.5 < loss_of("first_step_torch.py") < 4
    import first_step_torch

    from nnk import models

    theirs = {name: value.shape for name, value in first_step_torch.digits_cnn().state_dict().items()}
    assert theirs == {name: value.shape for name, value in models.digits_cnn().state_dict().items()}


def test_a_run_prints_ratios_and_is_kept(tmp_path, monkeypatch, capsys):
    import startup

    calls = []
    fakes = {name: lambda name=name: calls.append(name) for name in (*startup.TARGETS, "torch")}
    monkeypatch.setattr(startup, "programs", lambda threads, kernels: fakes)
    monkeypatch.setattr(startup, "QUICK_SAMPLES", 2)
    startup.main(["--quick", "--out", str(tmp_path / "startup.json")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("nnk, kernels on disk")
    assert "pass" in lines[1]
    assert lines[3].startswith("torch")
    assert "1.00" in lines[3].split()
    content = startup.record.json.loads((tmp_path / "startup.json").read_text())
    assert set(content["seconds"]) == set(fakes)
    assert content["command"].startswith("python bench/startup.py --quick")
