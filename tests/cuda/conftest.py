import importlib.util
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def load(name, path):
    """Import a file by its path alone, as pytest does: the folders here are no packages."""
    spec = importlib.util.spec_from_file_location(name, path)
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture
def cupy(monkeypatch):
    """A stand-in for CuPy, and all of nnk on it."""
    monkeypatch.setitem(sys.modules, "fake_cupy", None)  # so that it is gone afterwards
    return load("fake_cupy", HERE / "fake_cupy.py").install(monkeypatch)


@pytest.fixture(scope="session")
def simulator():
    """The CUDA kernels in Numba's simulator, under the scheduler of their own tests."""
    try:
        from nnk.kernels.cuda._numba import SIMULATED
    except ImportError as error:
        pytest.skip(str(error))
    if not SIMULATED:
        pytest.skip("NUMBA_ENABLE_CUDASIM=1 is not set")
    if "cuda_simulator" not in sys.modules:
        load("cuda_simulator", HERE.parent / "kernels" / "cuda" / "simulator.py").install()
