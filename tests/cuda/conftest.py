import importlib.util
import sys
from pathlib import Path

import pytest


@pytest.fixture
def cupy(monkeypatch):
    """A stand-in for CuPy, and all of nnk on it."""
    # The folder has no package: pytest imports test files by their path alone.
    spec = importlib.util.spec_from_file_location("fake_cupy", Path(__file__).with_name("fake_cupy.py"))
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "fake_cupy", module)
    spec.loader.exec_module(module)
    return module.install(monkeypatch)
