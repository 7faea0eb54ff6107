"""The CUDA kernels run in Numba's simulator where NUMBA_ENABLE_CUDASIM=1 is set, else on a GPU, else not at all."""

import importlib.util
import sys
from importlib import import_module
from pathlib import Path

import pytest

try:
    from nnk.kernels.cuda._numba import SIMULATED
except ImportError:  # without numba-cuda there is nothing to run
    SIMULATED, collect_ignore_glob = False, ["test_*.py"]


def beside(name):
    """The module `cuda_<name>` from the file beside this one: the folder has no package, pytest imports by path."""
    spec = importlib.util.spec_from_file_location(f"cuda_{name}", Path(__file__).with_name(f"{name}.py"))
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if SIMULATED:
    beside("simulator").install()


@pytest.fixture(scope="session")
def cuda_kernels():
    """The backend, for NumPy arrays: simulated, or on the GPU behind transfers of whole memory blocks."""
    if SIMULATED:
        return import_module("nnk.kernels.cuda")
    from nnk import backend

    problem = backend.cuda_problem()
    if problem:
        pytest.skip(f"NUMBA_ENABLE_CUDASIM=1 is not set, and there is no GPU: {problem}")
    return beside("transfers").Transferring(import_module("nnk.kernels.cuda"))


@pytest.fixture
def transfers(monkeypatch):
    """The module with a small CuPy of NumPy arrays."""
    monkeypatch.setitem(sys.modules, "cupy", beside("fake_cupy"))
    return beside("transfers")
