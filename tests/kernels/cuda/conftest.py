"""The CUDA kernels run in Numba's simulator where NUMBA_ENABLE_CUDASIM=1 is set, else on a GPU, else not at all."""

import importlib.util
import os
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
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


def need_device():
    """Skip where there is neither the simulator nor a GPU."""
    from nnk import backend

    if not SIMULATED and (problem := backend.cuda_problem()):
        pytest.skip(f"NUMBA_ENABLE_CUDASIM=1 is not set, and there is no GPU: {problem}")


@pytest.fixture(scope="session")
def cupy_on_gpu():
    """CuPy where there is a GPU, else None."""
    from nnk import backend

    return None if SIMULATED or backend.cuda_problem() else import_module("cupy")


@pytest.fixture(autouse=True)
def lives(cupy_on_gpu):
    """After an access beyond memory, or an unknown instruction, a process cannot use its GPU any more: it ends, and
    pytest-xdist starts another one for the tests that are left."""
    yield
    if cupy_on_gpu is not None:
        try:
            cupy_on_gpu.cuda.runtime.deviceSynchronize()
        except cupy_on_gpu.cuda.runtime.CUDARuntimeError as error:
            if "PYTEST_XDIST_WORKER" in os.environ:
                os._exit(1)
            pytest.exit(f"the GPU is lost to this process, all further tests would fail: {error}", 3)


@pytest.fixture(scope="session")
def cuda_kernels():
    """The backend, for NumPy arrays: simulated, or on the GPU behind transfers of whole memory blocks."""
    need_device()
    kernels = import_module("nnk.kernels.cuda")
    return kernels if SIMULATED else beside("transfers").Transferring(kernels)


class Device:
    """Where arrays lie that kernels take: put(array) copies there, get(array) back."""

    def put(self, values, dtype=None):
        memory = import_module("nnk.kernels.cuda._memory")
        values = np.asarray(values, dtype)
        array = memory.empty(values.shape, values.dtype)
        array[...] = memory.xp().asarray(values)
        return array

    def put_images(self, values):
        """The same for (N, C, H, W), channels-last in memory."""
        return self.put(np.ascontiguousarray(np.moveaxis(values, 1, 3))).transpose(0, 3, 1, 2)

    def get(self, array):
        return array if SIMULATED else array.get()


@pytest.fixture
def device(monkeypatch):
    """For kernels that a test declares itself: they are not among those of the package, and not kept."""
    need_device()
    launch = import_module("nnk.kernels.cuda.launch")
    monkeypatch.setattr(launch, "KERNELS", [])
    monkeypatch.setattr(launch.store, "read", lambda name: None)
    monkeypatch.setattr(launch.store, "write", lambda name, code: None)
    return Device()


@pytest.fixture(params=["forward", "backward"] if SIMULATED else ["device"])
def order(request):
    """The simulator's threads one after the other, and the last one first."""
    if SIMULATED:
        sys.modules["cuda_simulator"].order.backward = request.param == "backward"
    yield request.param
    if SIMULATED:
        sys.modules["cuda_simulator"].order.backward = False


@pytest.fixture
def transfers(monkeypatch):
    """The module with a small CuPy of NumPy arrays."""
    monkeypatch.setitem(sys.modules, "cupy", beside("fake_cupy"))
    return beside("transfers")
