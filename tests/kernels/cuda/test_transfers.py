"""What the parity suite sees of a GPU: arrays go there and come back as they are, whatever their strides."""

import inspect
import sys
from functools import wraps

import numpy as np
import pytest

from nnk.kernels import parity, reference
from nnk.kernels.cases._layout import LAYOUTS, place, poison
from nnk.kernels.ops import OPS

TRIED = {"conv2d", "max_pool2d", "batch_norm_train", "cross_entropy", "relu", "sgd", "adam", "total_norm"}


class Device:
    """The reference as a backend that takes and gives arrays of the fake CuPy alone."""

    def __init__(self, cupy):
        self.cupy = cupy

    def __getattr__(self, name):
        function = getattr(reference, name)
        parameters = inspect.signature(function)

        @wraps(function)
        def call(*args, **kwargs):
            bound = parameters.bind(*args, **kwargs)
            given = dict(bound.arguments)
            bound.arguments = {name: self.opened(value) for name, value in given.items()}
            return self.closed(function(*bound.args, **bound.kwargs), given.get("out"))

        return call

    def opened(self, value):
        if isinstance(value, (list, tuple)):
            return type(value)(map(self.opened, value))
        assert not isinstance(value, np.ndarray), "a NumPy array reached the device"
        return value.seen if isinstance(value, self.cupy.ndarray) else value

    def closed(self, result, out):
        if isinstance(result, tuple):
            return tuple(map(self.closed, result, out or [None] * len(result)))
        return self.cupy.asarray(result) if result is not None and out is None else out


@pytest.fixture
def through(transfers):
    """A function of device arrays, called with NumPy arrays."""

    def of(function):
        class Backend:
            kernel = staticmethod(function)

        return transfers.Transferring(Backend).kernel

    return of


def cases():
    for op in OPS:
        for case in op.suite.cases[:4] if op.name in TRIED else ():
            for layout in op.suite.layouts:
                yield pytest.param(op, case, layout, id=f"{op.name}-{case.name}-{layout}")


@pytest.mark.parametrize(("op", "case", "layout"), list(cases()))
def test_the_parity_suite_runs_through_transfers(op, case, layout, transfers, guarded):
    want, terms = parity.expected(op.suite, case, np.float32)
    kernels = guarded(transfers.Transferring(Device(sys.modules["cupy"])), op)
    with np.errstate(all="ignore"):
        got = op.suite.run(kernels, **parity.make_inputs(case, np.float32, layout))
    assert {name for name in want if parity.excess(got[name], want[name], terms[name], np.float32) > 1} == set()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_argument_has_its_strides_values_and_gaps_on_the_device(layout, through, transfers):
    values = np.random.default_rng(0).standard_normal((3, 4, 5, 6))
    x = place(values, np.float32, layout, np.random.default_rng(1), image=True)

    def look(a):
        assert a.strides == x.strides
        assert a.data.ptr % 16 == x.ctypes.data % 16
        np.testing.assert_array_equal(a.seen, x)
        below, size = transfers._extent(x)
        memory = a.data.memory[a.data.offset - below :]
        np.testing.assert_array_equal(memory[:size], transfers._memory(x, below, size))
        assert (memory[size:] == 0xFF).all()
        a.seen[...] = 7

    through(look)(x)
    assert (x == 7).all()


def test_a_broadcast_array_stays_one(through):
    x = np.broadcast_to(np.arange(3, dtype=np.float32)[:, None], (3, 5))

    def double(a):
        assert a.strides == (4, 0)
        return sys.modules["cupy"].asarray(2 * a.seen)

    np.testing.assert_array_equal(through(double)(x), 2 * x)


def test_writing_what_is_read_only_is_found(through):
    x = np.broadcast_to(np.float32(1), (3, 5))

    def spoil(a):
        a.seen[...] = 2

    with pytest.raises(AssertionError, match="a of kernel is read-only"):
        through(spoil)(x)


@pytest.mark.parametrize("where", [-1, 20])
def test_writing_beside_an_array_is_found(where, through):
    def spoil(a):
        a.data.memory[a.data.offset + where] ^= 1

    with pytest.raises(AssertionError, match="outside a of kernel"):
        through(spoil)(np.zeros(5, np.float32))


def test_writing_between_elements_reaches_the_host(through):
    buffer = np.zeros(9, np.float32)
    x = buffer[1:8:2]

    def spoil(a):
        a.data.memory[a.data.offset + 4 : a.data.offset + 8] = 0xFF

    through(spoil)(x)
    assert np.isnan(buffer).nonzero()[0].tolist() == [2]


def test_lists_are_updated_in_place(through):
    xs = [np.zeros(n, np.float32) for n in (1, 4, 0)]

    def count(arrays):
        for i, a in enumerate(arrays):
            a.seen[...] = i + 1

    assert through(count)(xs) is None
    assert [x.tolist() for x in xs] == [[1], [2] * 4, []]


def test_out_is_returned_and_no_copy_of_it(through):
    out = (np.zeros(3, np.float32), None, np.zeros((0, 2), np.int64))
    results = through(lambda x, *, out: out)(np.ones(3, np.float32), out=out)
    assert [a is b for a, b in zip(results, out)] == [True] * 3


def test_a_result_in_an_argument_s_memory_is_a_view_of_it(through):
    x = np.arange(12, dtype=np.float32).reshape(3, 4)

    def part(a):
        return sys.modules["cupy"].ndarray((2, 2), np.float32, a.data + 20, (16, 4))

    view = through(part)(x)
    assert np.may_share_memory(view, x)
    np.testing.assert_array_equal(view, x[1:, 1:3])


@pytest.mark.parametrize("shape", [(), (5,), (2, 3, 4, 5), (0, 3)])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_result_keeps_its_layout(shape, layout, through):
    x = place(np.ones(shape), np.float32, layout, np.random.default_rng(0), image=True)

    def copy(a):
        below = -sum(min(0, stride * (n - 1)) for stride, n in zip(a.strides, a.shape))
        memory = sys.modules["cupy"].MemoryPointer(np.zeros(10_000, np.uint8), 64 + below)
        b = sys.modules["cupy"].ndarray(a.shape, a.dtype, memory, a.strides)
        b.seen[...] = 3 * a.seen
        return b

    y = through(copy)(x)
    np.testing.assert_array_equal(y, 3 * x)
    assert (y.shape, y.strides, y.dtype) == (x.shape, x.strides, x.dtype)
    poison(y)


def test_signatures_show_through(transfers):
    assert "out" in inspect.signature(transfers.Transferring(reference).relu).parameters
