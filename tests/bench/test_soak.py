import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"

needs_proc = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


@needs_proc
@pytest.mark.parametrize("network", ["digits_cnn", "resnet20"])
def test_memory_stays_flat_while_batches_change(network):
    command = [sys.executable, BENCH / "soak.py", "0.1", "--network", network, "--largest", "24"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.splitlines()[-1].endswith("MB: flat")


def test_growth_leaves_the_warm_up_out():
    import soak

    samples = [(second, 10**9 if second < 10 else 100 + second // 50) for second in range(101)]
    assert soak.growth(samples) == pytest.approx((100, 101), abs=0.1)


@needs_proc
@pytest.mark.parametrize(("leak", "code"), [(0, 0), (1 << 20, 1)])
def test_a_leak_is_found(leak, code, monkeypatch, capsys):
    import soak

    sizes = iter(range(100 << 20, 1 << 40, leak)) if leak else iter(lambda: 100 << 20, None)
    monkeypatch.setattr(soak, "resident", lambda: next(sizes))
    assert soak.main(["0.02", "--network", "lenet", "--largest", "3"]) == code
    assert capsys.readouterr().out.endswith("GROWN\n" if leak else "flat\n")
