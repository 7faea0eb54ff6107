from pathlib import Path

import pytest

from nnk.kernels.cpu import _driver

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """The benches are scripts: they import each other by file name."""
    monkeypatch.syspath_prepend(str(BENCH))


@pytest.fixture(autouse=True)
def same_threads():
    before = _driver.get_num_threads()
    yield
    _driver.set_num_threads(before)


@pytest.fixture
def quickly(monkeypatch):
    """Benches that take as few samples as they can, and do not measure the machine."""
    import harness
    import roofline

    monkeypatch.setattr(harness.Budget, "share", lambda self: 0.0)
    monkeypatch.setattr(roofline, "measure", lambda threads, samples: roofline.Roofline(1e9, 1e9))
