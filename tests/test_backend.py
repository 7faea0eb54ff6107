import os
import re
import subprocess
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest

import nnk
from nnk import backend, nn

FLOAT = np.ones(3, np.float32)


def test_the_array_decides():
    assert backend.of(FLOAT).__name__ == "nnk.kernels.cpu"
    with nnk.use_backend("reference"):
        assert backend.of(FLOAT).__name__ == "nnk.kernels.reference"
        with nnk.use_backend("cpu"):
            assert backend.of(FLOAT).__name__ == "nnk.kernels.cpu"
        assert backend.of(FLOAT.astype(np.float64)).__name__ == "nnk.kernels.reference"
    assert backend.of(FLOAT).__name__ == "nnk.kernels.cpu"


def test_use_backend_ends_with_an_exception():
    with pytest.raises(ZeroDivisionError), nnk.use_backend("reference"):
        raise ZeroDivisionError
    assert backend.of(FLOAT).__name__ == "nnk.kernels.cpu"


def test_use_backend_stays_in_its_thread():
    seen = []
    with nnk.use_backend("reference"):
        thread = threading.Thread(target=lambda: seen.append(backend.of(FLOAT).__name__))
        thread.start()
        thread.join()
    assert seen == ["nnk.kernels.cpu"]


@pytest.mark.parametrize("name", ["torch", "", None])
def test_unknown_backend(name):
    with pytest.raises(ValueError, match=r"expected one of \('reference', 'cpu', 'cuda'\)"), nnk.use_backend(name):
        pass


def test_cuda_without_a_gpu():
    problem = backend.cuda_problem()
    if problem is None or "NUMBA_ENABLE_CUDASIM" in problem:
        pytest.skip("there is a GPU, or its simulator")
    with pytest.raises(RuntimeError, match="CUDA cannot be used"), nnk.use_backend("cuda"):
        pass


INSTALL = re.escape("python -m pip install 'nnk[cuda13]' (or 'nnk[cuda12]' for a driver of CUDA 12)")


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("nnk.kernels.cuda._numba", "_numba"),
        ("cuda.bindings.driver", f"cuda.bindings.driver cannot be imported .*: {INSTALL}"),
        ("cuda.bindings.nvjitlink", f"cuda.bindings.nvjitlink cannot be imported .*: {INSTALL}"),
        ("cupy", f"CuPy cannot be imported .*: {INSTALL}"),
        ("a GPU", "CuPy finds no GPU"),
        ("a driver", "CuPy finds no GPU .*driver version is insufficient"),
        (None, None),
    ],
)
def test_cuda_names_what_is_missing(monkeypatch, missing, message):
    class CUDARuntimeError(RuntimeError):
        pass

    def count():
        if missing == "a driver":
            raise CUDARuntimeError("CUDA driver version is insufficient")
        return int(missing != "a GPU")

    runtime = SimpleNamespace(getDeviceCount=count, CUDARuntimeError=CUDARuntimeError)
    modules = {
        "nnk.kernels.cuda._numba": SimpleNamespace(SIMULATED=False),
        "cuda.bindings.driver": SimpleNamespace(),
        "cuda.bindings.nvjitlink": SimpleNamespace(),
        "cupy": SimpleNamespace(cuda=SimpleNamespace(runtime=runtime)),
    }
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, None if name == missing else module)
    problem = backend.cuda_problem()
    assert problem is None if message is None else re.search(message, problem)


def test_cuda_in_the_simulator_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "nnk.kernels.cuda._numba", SimpleNamespace(SIMULATED=True))
    monkeypatch.setenv("NUMBA_ENABLE_CUDASIM", "1")
    assert backend.cuda_problem().startswith("NUMBA_ENABLE_CUDASIM=1 is set")
    with nnk.use_backend("cuda"), pytest.raises(TypeError, match="expected float32, float16 or bfloat16 on the 'cuda'"):
        backend.of(FLOAT.astype(np.float64))


def test_numpy_arrays_are_refused_where_a_gpu_is_forced(monkeypatch):
    monkeypatch.setattr(backend, "cuda_problem", lambda: None)
    monkeypatch.delenv("NUMBA_ENABLE_CUDASIM", raising=False)
    with nnk.use_backend("cuda"), pytest.raises(TypeError, match="the input is on 'cpu', but use_backend"):
        backend.of(FLOAT)


def test_dtypes_of_the_cpu():
    with pytest.raises(TypeError, match=r"float64, expected float32 on the 'cpu'.*astype\(np.float32\).*use_backend"):
        backend.of(FLOAT.astype(np.float64))
    with pytest.raises(TypeError, match="dtype >f4"):
        backend.of(FLOAT.astype(">f4"))
    for dtype in (np.uint8, np.int64, bool, np.complex64):
        with pytest.raises(TypeError, match="expected a float"):
            backend.of(FLOAT.astype(dtype))


def test_dtypes_of_the_reference():
    with nnk.use_backend("reference"):
        for dtype in (np.float16, np.float32, np.float64):
            backend.of(FLOAT.astype(dtype))
        with pytest.raises(TypeError, match="int64, expected a float"):
            backend.of(np.ones(3, np.int64))


def test_mixed_dtypes():
    message = r"input is float32, but .* holds float64: .* model\.to\('float32'\) or x\.astype\('float64'\)"
    with nnk.use_backend("reference"), pytest.raises(TypeError, match=message):
        backend.of(FLOAT, None, FLOAT, np.ones(2))


@pytest.mark.parametrize(
    ("value", "dtype"),
    [(1.5, "f4"), ([1, 2], "i8"), ([[1.0], [2.0]], "f4"), ((1.0, 2), "f4"), (np.float64(1), "f8")],
)
def test_numbers_and_lists(value, dtype):
    array = backend.as_array(value)
    assert type(array) is np.ndarray
    assert array.dtype == dtype
    np.testing.assert_array_equal(array, value)


def test_arrays_stay_as_they_are(tmp_path):
    for array in (FLOAT, np.ones((2, 3))[:, ::2], np.ones((2, 3, 4)).transpose(1, 2, 0), np.ones(3, np.uint8)):
        assert backend.as_array(array) is array
    mapped = np.memmap(tmp_path / "a", np.float32, "w+", shape=(3,))
    array = backend.as_array(mapped)
    assert type(array) is np.ndarray
    assert np.shares_memory(array, mapped)


def test_fields_of_packed_records_are_copied():
    records = np.zeros(4, np.dtype([("tag", "u1"), ("value", "f4")]))
    records["value"] = [1, 2, 3, 4]
    assert not records["value"].flags.aligned
    array = backend.as_array(records["value"])
    assert array.flags.aligned
    np.testing.assert_array_equal(nn.ReLU()(records["value"]), [1, 2, 3, 4])


def test_torch_tensors_without_a_copy():
    torch = pytest.importorskip("torch")
    tensor = torch.ones(2, 3, requires_grad=True)
    array = backend.as_array(tensor)
    assert np.shares_memory(array, tensor.detach().numpy())
    assert backend.as_array(torch.ones(2, 3, 4).permute(2, 0, 1)).shape == (4, 2, 3)
    assert type(nn.ReLU()(tensor)) is np.ndarray


def test_dlpack_without_a_copy():
    class OnlyDLPack:
        def __init__(self, array):
            self.array = array

        def __dlpack__(self, **options):
            return self.array.__dlpack__(**options)

        def __dlpack_device__(self):
            return self.array.__dlpack_device__()

    assert np.shares_memory(backend.as_array(OnlyDLPack(FLOAT)), FLOAT)


def test_array_interface_without_a_copy():
    class OnlyInterface:
        __array_interface__ = FLOAT.__array_interface__

    assert np.shares_memory(backend.as_array(OnlyInterface()), FLOAT)


@pytest.mark.parametrize("value", ["text", None, {"a": 1}, [[1], [1, 2]], object(), ["a"], np.array(["a"], object)])
def test_what_is_no_array(value):
    if type(value) is np.ndarray:
        with pytest.raises(TypeError, match="expected a float"):
            nn.ReLU()(value)
    else:
        with pytest.raises(TypeError, match="cannot read a"):
            backend.as_array(value)


def test_threads(recwarn):
    before = nnk.get_num_threads()
    try:
        nnk.set_num_threads(1)
        assert nnk.get_num_threads() == 1
        nnk.set_num_threads(np.int64(1))
    finally:
        nnk.set_num_threads(before)
    for wrong in (0, -1):
        with pytest.raises(ValueError, match=f"n is {wrong}, expected at least 1 thread"):
            nnk.set_num_threads(wrong)
    for wrong in (1.0, "2", None, True):
        with pytest.raises(TypeError, match="expected an int"):
            nnk.set_num_threads(wrong)


def test_precision():
    assert nnk.get_precision() == "high"
    try:
        nnk.set_precision("highest")
        assert nnk.get_precision() == "highest"
    finally:
        nnk.set_precision("high")
    with pytest.raises(ValueError, match="precision is 'low'"):
        nnk.set_precision("low")


def test_empty_cache_gives_memory_back_and_kernels_go_on():
    relu = nn.ReLU()
    x = np.ones((64, 64), np.float32)
    relu(x)
    nnk.empty_cache()
    np.testing.assert_array_equal(relu(x), x)


def test_the_documented_variable_sets_the_threads():
    done = subprocess.run(
        [sys.executable, "-c", "import nnk; print(nnk.get_num_threads())"],
        env={**os.environ, "NNK_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["1"]
