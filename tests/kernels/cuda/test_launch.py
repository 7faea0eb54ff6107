"""What a launch hands to the driver, and what it says when something does not fit. A fake driver listens: no GPU."""

import ctypes
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from nnk.kernels.codestore import CodeStore
from nnk.kernels.cuda import _link, launch
from nnk.kernels.cuda._numba import SIMULATED
from nnk.kernels.cuda.launch import (
    F32,
    F64,
    FLOAT,
    I32,
    I64,
    INT,
    LONG,
    MAP,
    STORAGE,
    U8,
    U32,
    U64,
    UINT,
    kernel,
)  # fmt: skip

pytestmark = pytest.mark.skipif(SIMULATED, reason="the simulator launches nothing")

ERRORS = {0: "CUDA_SUCCESS", 1: "CUDA_ERROR_INVALID_VALUE", 200: "CUDA_ERROR_INVALID_IMAGE"}


class Map(ctypes.Structure):
    _fields_ = (("bytes", ctypes.c_uint8 * 128),)
    value = property(bytes)


READ = {"f": ctypes.c_float, "i": ctypes.c_int32, "I": ctypes.c_uint32, "q": ctypes.c_int64, "Q": ctypes.c_uint64,
        "128s": Map}


class Result(int):
    name = property(lambda self: ERRORS[self])


class Driver:
    """Answers like cuda.bindings.driver and writes down what it was asked; `fails` maps a function to an error."""

    CUfunction_attribute = SimpleNamespace(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES=8)

    def __init__(self):
        self.fails, self.loads, self.attributes, self.launches = {}, [], [], []
        self.context = threading.local()

    def answer(self, name, *values):
        return (Result(self.fails.get(name, 0)), *values)

    def cuCtxGetCurrent(self):
        return self.answer("cuCtxGetCurrent", getattr(self.context, "current", 0))

    def cuDeviceGet(self, device):
        return self.answer("cuDeviceGet", device)

    def cuDevicePrimaryCtxRetain(self, device):
        return self.answer("cuDevicePrimaryCtxRetain", 1000 + device)

    def cuCtxSetCurrent(self, context):
        self.context.current = context
        return self.answer("cuCtxSetCurrent")

    def cuModuleLoadData(self, code):
        assert self.context.current, "a module is loaded into a context"
        self.loads.append(code)
        return self.answer("cuModuleLoadData", code)

    def cuModuleGetFunction(self, module, name):
        return self.answer("cuModuleGetFunction", (module, name))

    def cuFuncSetAttribute(self, function, attribute, value):
        self.attributes.append((attribute, value))
        return self.answer("cuFuncSetAttribute")

    def cuLaunchKernel(self, function, x, y, z, bx, by, bz, shared, stream, table, extra):
        if min(x, y, z) < 0:
            raise OverflowError("can't convert negative value to unsigned int")
        time.sleep(0)  # the moment at which another thread could write over the arguments
        assert self.context.current, "a launch needs a context"
        codes = self.codes
        where = (ctypes.c_void_p * len(codes)).from_address(table)
        args = tuple(READ[code].from_address(at).value for code, at in zip(codes, where))
        assert all(at % min(ctypes.sizeof(READ[code]), 8) == 0 or code == "128s" for code, at in zip(codes, where))
        self.launches.append(SimpleNamespace(function=function, grid=(x, y, z), block=(bx, by, bz), shared=shared,
                                             stream=stream, args=args, thread=threading.get_ident()))
        return self.answer("cuLaunchKernel")


class Array:
    """As much of a CuPy array as a launch looks at."""

    def __init__(self, address, dtype="float32", device=0):
        self.data, self.dtype = SimpleNamespace(ptr=address, device_id=device), np.dtype(dtype)


@pytest.fixture
def machine(monkeypatch):
    """A machine with two devices, sm_90 and sm_75, that compiles nothing; `machine.driver` listens."""
    current = SimpleNamespace(device=0, stream=7, driver=Driver(), capabilities=("90", "75"))
    cupy = SimpleNamespace(cuda=SimpleNamespace(
        runtime=SimpleNamespace(getDevice=lambda: current.device, driverGetVersion=lambda: 12080),
        Device=lambda number: SimpleNamespace(compute_capability=current.capabilities[number]),
        get_current_stream=lambda: SimpleNamespace(ptr=current.stream)))
    monkeypatch.setattr(launch, "_cupy", lambda: cupy)
    monkeypatch.setattr(launch, "_driver", lambda: current.driver)
    monkeypatch.setattr(launch, "KERNELS", [])
    monkeypatch.setattr(launch.Kernel, "cubin", lambda self, dtype, at: f"{self.name} {dtype} {_link.arch(at)}")
    launch.device_capability.cache_clear()
    yield current
    launch.device_capability.cache_clear()


def made(machine, block=128, shared=0, arch=None, **fields):
    """A kernel of these arguments, whose body nobody needs."""
    namespace = {}
    exec(f"def _probe({', '.join(fields)}): pass", namespace | {"__name__": "probes"}, namespace)
    namespace["_probe"].__module__ = "nnk.probes"
    machine.driver.codes = [launch._code(kind) for kind in fields.values()]
    return kernel(block=block, shared=shared, arch=arch, **fields)(namespace["_probe"])


def test_cuda_every_kind_of_argument_arrives(machine):
    run = made(machine, n=INT, x=STORAGE, u=UINT, b=F32, s=FLOAT, c=F64, d=I32, m=LONG, e=I64, f=U8, g=U32, h=U64)
    pointers = [Array(2**47 + 16 * i) for i in range(8)]
    x, b, c, d, e, f, g, h = pointers
    run(3, -(2**31), x, 2**32 - 1, b, 0.5, c, d, -(2**63), e, f, g, h)
    x, b, c, d, e, f, g, h = (array.data.ptr for array in pointers)
    assert machine.driver.launches[-1].args == (-(2**31), x, 2**32 - 1, b, 0.5, c, d, -(2**63), e, f, g, h)


def test_cuda_a_tensor_map_is_passed_by_value(machine):
    run = made(machine, n=INT, x=STORAGE, first=MAP, second=MAP, m=LONG)
    first, second = bytes(range(128)), bytes(range(128, 256))
    run(1, 3, Array(64), first, second, 4)
    assert machine.driver.launches[-1].args == (3, 64, first, second, 4)


def test_cuda_none_is_a_null_pointer(machine):
    run = made(machine, x=STORAGE, y=STORAGE, w=F32)
    run(1, Array(64), None, None)
    assert machine.driver.launches[-1].args == (64, 0, 0)


def test_cuda_numpy_scalars_are_numbers(machine):
    run = made(machine, n=INT, s=FLOAT, m=LONG)
    run(np.int64(2), np.int64(5), np.float32(0.25), np.int32(6))
    assert machine.driver.launches[-1].args == (5, 0.25, 6)
    assert machine.driver.launches[-1].grid == (2, 1, 1)


@pytest.mark.parametrize(("grid", "want"), [(5, (5, 1, 1)), ((5, 6), (5, 6, 1)), ((5, 6, 7), (5, 6, 7))])
def test_cuda_grid_block_and_stream(machine, grid, want):
    run = made(machine, block=96, shared=1024, n=INT)
    machine.stream = 99
    run(grid, 1)
    seen = machine.driver.launches[-1]
    assert (seen.grid, seen.block, seen.shared, seen.stream) == (want, (96, 1, 1), 1024, 99)
    assert seen.function == ("probe float32 sm_90", b"probes_probe")


@pytest.mark.parametrize("grid", [0, (0,), (3, 0), (3, 4, 0)])
def test_cuda_an_empty_grid_is_no_launch(machine, grid):
    made(machine, n=INT)(grid, 1)
    assert not machine.driver.launches


@pytest.mark.parametrize(("shared", "asked"), [(48 * 1024, []), (48 * 1024 + 16, [(8, 48 * 1024 + 16)])])
def test_cuda_shared_memory_beyond_48_kilobytes_is_asked_for(machine, shared, asked):
    made(machine, shared=shared, n=INT)(1, 1)
    assert machine.driver.attributes == asked


def test_cuda_shared_memory_beyond_the_card_names_the_kernel(machine):
    machine.driver.fails["cuFuncSetAttribute"] = 1
    with pytest.raises(RuntimeError, match=r"probes\.probe.*CUDA_ERROR_INVALID_VALUE.*300000 bytes of shared memory"):
        made(machine, shared=300_000, n=INT)(1, 1)


def test_cuda_an_illegal_launch_names_the_kernel(machine):
    run = made(machine, block=2048, n=INT)
    machine.driver.fails["cuLaunchKernel"] = 1
    with pytest.raises(RuntimeError, match=r"probes\.probe.*INVALID_VALUE to \(1, 70000, 1\) blocks of 2048 threads"):
        run((1, 70000), 1)


@pytest.mark.parametrize(
    ("error", "values"),
    [
        (r"n is 2147483648, expected INT", dict(n=2**31)),
        (r"n is 1\.5, expected INT", dict(n=1.5)),
        (r"u is -1, expected UINT", dict(u=-1)),
        (r"m is 9223372036854775808, expected LONG", dict(m=2**63)),
        (r"w is array\(\[0\., 0\.\]\), expected f32", dict(w=np.zeros(2))),
        (r"s is 'a', expected FLOAT", dict(s="a")),
        (r"a grid of \(-1, 1, 1\) blocks", dict(grid=-1)),
    ],
)
def test_cuda_what_cannot_be_passed_on_is_named(machine, error, values):
    run = made(machine, x=STORAGE, w=F32, n=INT, u=UINT, m=LONG, s=FLOAT)
    given = dict(grid=1, x=Array(16), w=None, n=1, u=1, m=1, s=1.0) | values
    with pytest.raises((OverflowError, TypeError), match=rf"probes\.probe.*{error}"):
        run(*given.values())
    assert not machine.driver.launches


def test_cuda_a_missing_argument_is_named(machine):
    with pytest.raises(TypeError, match=r"probes\.probe.* takes x, n; got 1 arguments"):
        made(machine, x=STORAGE, n=INT)(1, Array(16))


def test_cuda_one_load_for_each_device_and_dtype(machine):
    run = made(machine, x=STORAGE)
    for _ in range(3):
        for device, dtypes in ((0, ("float32", "float16")), (1, ("float32", "float16"))):
            machine.device = device
            for dtype in dtypes:
                run(1, Array(16, dtype, device))
    assert machine.driver.loads == [f"probe {t} {a}" for a in ("sm_90", "sm_75") for t in ("float32", "float16")]
    assert [seen.function[0] for seen in machine.driver.launches[:4]] == machine.driver.loads


def test_cuda_an_array_on_another_device_is_named(machine):
    run = made(machine, x=STORAGE)
    with pytest.raises(ValueError, match=r"probes\.probe.*x lives on device 1, current is 0.*cupy\.cuda\.Device\(1\)"):
        run(1, Array(16, device=1))


def test_cuda_dtypes_that_there_is_no_kernel_for(machine):
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    run = made(machine, x=STORAGE)
    run(1, Array(16, bfloat16))
    with pytest.raises(TypeError, match=r"probes\.probe.*float32, float16, bfloat16, got float64"):
        run(1, Array(16, "float64"))
    machine.device = 1
    with pytest.raises(TypeError, match=r"bfloat16 needs compute capability 8\.0; device 1 has sm_75"):
        run(1, Array(16, bfloat16, device=1))


def test_cuda_a_kernel_for_one_architecture(machine):
    run = made(machine, arch="sm_90a", x=STORAGE)
    run(1, Array(16))
    assert machine.driver.loads == ["probe float32 sm_90a"]
    machine.device = 1
    with pytest.raises(RuntimeError, match=r"probes\.probe.* is made for sm_90a alone; device 1 is sm_75"):
        run(1, Array(16, device=1))


def test_cuda_threads_keep_their_arguments_apart(machine):
    run = made(machine, x=STORAGE, n=INT, s=FLOAT, m=LONG)
    start, errors = threading.Barrier(4), []

    def launches(number):
        try:
            start.wait()
            for i in range(200):
                run(number, Array(64 * number), i, float(number), i * number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=launches, args=(number,)) for number in range(1, 5)]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert not errors
    assert len(machine.driver.loads) == 1
    seen = sorted((s.grid[0], s.args) for s in machine.driver.launches)
    assert seen == [(n, (64 * n, i, float(n), i * n)) for n in range(1, 5) for i in range(200)]


def test_cuda_code_too_new_for_the_driver_names_both_versions(machine, monkeypatch):
    monkeypatch.setattr(_link, "nvjitlink", lambda: SimpleNamespace(version=lambda: (13, 5)))
    machine.driver.fails["cuModuleLoadData"] = 200
    with pytest.raises(RuntimeError, match=r"probe.*CUDA_ERROR_INVALID_IMAGE.*CUDA 12\.8.*nvJitLink 13\.5.*") as caught:
        made(machine, n=INT)(1, 1)
    assert "pip install 'nnk[cuda12]' 'cuda-toolkit[nvcc,nvrtc]==12.8.*' 'nvidia-nvjitlink-cu12==12.8.*'" in str(
        caught.value
    )


def test_cuda_ptx_too_new_for_the_linker_names_both_versions():
    with pytest.raises(RuntimeError, match=r"nvJitLink \d+\.\d+ could not assemble PTX 99\.9 for sm_90") as caught:
        _link.link([".version 99.9\n.target sm_90\n.address_size 64\n.visible .entry k() { ret; }"], (9, 0))
    assert "pip install 'nnk[cuda" in str(caught.value)


@pytest.mark.parametrize("missing", ["cupy", "cuda.bindings.driver", "cuda.bindings.nvjitlink"])
def test_cuda_what_is_missing_is_named_with_the_command(monkeypatch, missing):
    find = {
        "cupy": launch._cupy.__wrapped__, "cuda.bindings.driver": launch._driver.__wrapped__,
        "cuda.bindings.nvjitlink": _link.nvjitlink.__wrapped__,
    }  # fmt: skip
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImportError, match=r"(?i)kernels need (cupy|cuda\.bindings).*pip install 'nnk\[cuda13\]'"):
        find[missing]()


def test_cuda_a_linker_without_its_library_is_named(monkeypatch):
    def version():
        raise RuntimeError("libnvJitLink.so.13: no such file")

    monkeypatch.setattr(_link, "binding", lambda name: SimpleNamespace(version=version))
    with pytest.raises(ImportError, match=r"nvJitLink.*no such file.*cuda-bindings.*pip install 'nnk\[cuda13\]'"):
        _link.nvjitlink.__wrapped__()


def _count(x, n):
    pass


def test_cuda_machine_code_is_kept_by_dtype_and_architecture(monkeypatch, tmp_path):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(launch, "KERNELS", [])
    monkeypatch.setattr(launch, "store", CodeStore("cuda", lambda: "stamp"))
    linked = []
    monkeypatch.setattr(launch, "link", lambda ptx, at: (linked.append(_link.arch(at)) or ptx[0].encode(), ""))
    run = kernel(block=32, x=STORAGE, n=INT)(_count)
    first = [run.cubin(dtype, at) for dtype in ("float32", "float16") for at in ((7, 5), (9, 0), (9, 0, "a"))]
    assert linked == ["sm_75", "sm_90", "sm_90a"] * 2
    assert [run.cubin(dtype, at) for dtype in ("float32", "float16") for at in ((7, 5), (9, 0), (9, 0, "a"))] == first
    assert len(linked) == 6
    assert {path.name for path in (tmp_path / "cuda-stamp").iterdir()} == {"used"} | {
        f"test_launch-count-{dtype}-{at}" for dtype in ("float32", "float16") for at in ("sm_75", "sm_90", "sm_90a")
    }
    assert b".target sm_90a" in first[2]
    assert b".entry test_launch_count(" in first[2]
