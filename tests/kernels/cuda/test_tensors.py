"""One launch over many tensors: numbers on the device, dtypes side by side, odd addresses; tables that are kept."""

from types import SimpleNamespace

import numpy as np
import pytest

from nnk.kernels.cuda import _tensors
from nnk.kernels.cuda._numba import SIMULATED

simulated = pytest.mark.skipif(not SIMULATED, reason="passes NumPy arrays to the kernels")
OPTIONS = {
    "sgd": {"momentum": 0.9},
    "adam": {"beta1": 0.9, "beta2": 0.99, "eps": 1e-8, "step": 7},
    "adamw": {"beta1": 0.9, "beta2": 0.99, "eps": 1e-8, "step": 7, "weight_decay": 0.1},
    "adagrad": {"eps": 1e-8, "step": 7, "lr_decay": 0.1},
    "adadelta": {"rho": 0.9, "eps": 1e-6},
    "rmsprop": {"alpha": 0.9, "eps": 1e-6},
}
LISTS = {"sgd": 3, "adam": 4, "adamw": 4, "adagrad": 3, "adadelta": 4, "rmsprop": 3}


def lists(name, dtypes=("float32",) * 3, seed=0):
    rng = np.random.default_rng(seed)
    shapes = ((5,), (3, 4), (31,))
    return [[rng.random(shape).astype(dtype) for shape, dtype in zip(shapes, dtypes)] for _ in range(LISTS[name])]


def assert_equal(a, b):
    for xs, ys in zip(a, b):
        for x, y in zip(xs, ys):
            np.testing.assert_array_equal(x, y)


@simulated
@pytest.mark.parametrize("name", OPTIONS, ids=lambda name: f"cuda-{name}")
def test_numbers_on_the_device_are_read_by_the_kernel(name, cuda_kernels):
    a, b = lists(name), lists(name)
    numbers = {"lr": 0.1, "grad_scale": 0.3}
    getattr(cuda_kernels, name)(*a, **OPTIONS[name], **numbers)
    arrays = {key: np.array(value, np.float32) for key, value in numbers.items()}
    if "step" in OPTIONS[name]:
        arrays["step"] = np.array(7, np.int64)
    getattr(cuda_kernels, name)(*b, **OPTIONS[name] | arrays)
    assert_equal(a, b)


@simulated
@pytest.mark.parametrize("name", OPTIONS, ids=lambda name: f"cuda-{name}")
def test_parameters_of_several_dtypes_are_updated_each_in_its_own(name, cuda_kernels):
    dtypes = ("float16", "float32", "float16")
    together, alone = lists(name, dtypes), lists(name, dtypes)
    getattr(cuda_kernels, name)(*together, lr=0.1, **OPTIONS[name])
    for i in range(3):
        getattr(cuda_kernels, name)(*([arrays[i]] for arrays in alone), lr=0.1, **OPTIONS[name])
    assert [x.dtype for x in together[0]] == list(dtypes)
    assert_equal(together, alone)


@simulated
def test_cuda_arrays_at_odd_addresses_give_the_same(cuda_kernels):
    want = lists("adam")
    odd = [[np.concatenate([np.zeros(1, np.float32), x.reshape(-1)])[1:].reshape(x.shape) for x in xs] for xs in want]
    assert odd[0][0].ctypes.data % 16
    for arrays in (want, odd):
        cuda_kernels.adam(*arrays, lr=0.1, **OPTIONS["adam"])
    assert_equal(want, odd)


class Device:
    """What `uploaded` asks of CuPy: a current stream that may be capturing, memory that counts its copies."""

    def __init__(self):
        self.copies = self.waits = 0
        self.stream = SimpleNamespace(ptr=1, capturing=False)
        self.stream.is_capturing = lambda: self.stream.capturing
        self.stream.record = lambda: SimpleNamespace(synchronize=self._wait)
        self.cuda = SimpleNamespace(
            get_current_stream=lambda: self.stream,
            runtime=SimpleNamespace(getDevice=lambda: 0),
            alloc_pinned_memory=Pinned,
        )

    def _wait(self):
        self.waits += 1

    def empty(self, shape, dtype):
        array = np.empty(shape, dtype)

        def copy(source, size, stream):
            self.copies += 1
            array.view(np.uint8)[:] = np.frombuffer(source, np.uint8, size)

        return SimpleNamespace(values=array, data=SimpleNamespace(copy_from_host_async=copy))


class Pinned(bytearray):
    @property
    def ptr(self):
        return self


@pytest.fixture
def gpu(monkeypatch):
    device = Device()
    monkeypatch.setattr(_tensors, "SIMULATED", False)
    monkeypatch.setattr(_tensors, "xp", lambda: device)
    monkeypatch.setattr(_tensors, "_recent", type(_tensors._recent)())
    monkeypatch.setattr(_tensors, "_captured", {})
    monkeypatch.setattr(_tensors, "_of_graphs", [])
    return device


def upload(number):
    return _tensors.uploaded(("addresses", (number,)), lambda: np.array([number, -number]))


def test_cuda_tables_are_copied_once_for_each_set_of_addresses(gpu):
    assert upload(1) is upload(1)
    np.testing.assert_array_equal(upload(2).values, [2, -2])
    assert gpu.copies == 2
    gpu.stream.ptr = 5  # whose kernels must not read before the copy has run
    upload(2)
    assert gpu.copies == 3


def test_cuda_tables_that_nobody_asked_for_in_a_while_go_after_their_copy(gpu):
    first = upload(0)
    for number in range(1, _tensors.KEPT):
        upload(number)
    assert upload(0) is first
    upload(_tensors.KEPT)  # the oldest is 1 by now
    assert gpu.waits == 1
    assert upload(0) is first
    assert gpu.copies == _tensors.KEPT + 1
    upload(1)
    assert gpu.copies == _tensors.KEPT + 2


def test_cuda_tables_of_a_captured_graph_stay(gpu):
    before = upload(0)
    gpu.stream.capturing = True
    assert upload(0) is before
    during = upload(1)
    gpu.stream.capturing = False
    for number in range(2, 3 * _tensors.KEPT):
        upload(number)
    assert upload(0) is before
    assert any(kept.array is during for kept in _tensors._of_graphs)


def test_cuda_tables_of_a_capture_that_failed_are_copied_anew(gpu):
    gpu.stream.capturing = True
    during = upload(0)
    gpu.stream.capturing = False
    assert upload(0) is not during
    assert gpu.copies == 2
