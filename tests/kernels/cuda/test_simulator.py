"""What the simulator's scheduler must show: that kernels agree under it means something only then."""

import math

import numpy as np
import pytest

from nnk.kernels.cuda._numba import SIMULATED, cuda, types
from nnk.kernels.cuda.launch import F32, I32, INT, STORAGE, kernel
from nnk.kernels.cuda.ptx import ballot, load, load_vector, shuffle_xor, store

pytestmark = pytest.mark.skipif(not SIMULATED, reason="NUMBA_ENABLE_CUDASIM=1 is not set")

FOUR = 4


def _number(y):
    y[0] = cuda.threadIdx.x


def _neighbours(y, wait):
    held = cuda.shared.array(64, types.float32)
    me = cuda.threadIdx.x
    held[me] = me
    if wait:
        cuda.syncthreads()
    y[me] = held[(me + 1) % 64]


def _unwritten(y, k):
    shared, local = cuda.shared.array(4, types.float32), cuda.local.array(4, types.float32)
    words = cuda.shared.array(4, types.int32)
    y[0], y[1], k[0] = shared[1], local[1], words[1]


def _left_behind(y):
    held = cuda.shared.array(1, types.float32)
    if cuda.blockIdx.x == 0:
        held[0] = 7
    y[cuda.blockIdx.x] = held[0]


def _early_return(y):
    held = cuda.shared.array(64, types.float32)
    me = cuda.threadIdx.x
    if me >= 40:
        return
    held[me] = me
    cuda.syncthreads()
    y[me] = held[39 - me]


def _some_lanes(y):
    if cuda.threadIdx.x < 20:
        y[cuda.threadIdx.x] = shuffle_xor(1.0, 1)


def _barrier_or_warp(y):
    if cuda.threadIdx.x < 16:
        cuda.syncthreads()
    y[cuda.threadIdx.x] = shuffle_xor(1.0, 1)


def _different_collectives(y):
    if cuda.threadIdx.x < 16:
        y[cuda.threadIdx.x] = shuffle_xor(1.0, 1)
    else:
        y[cuda.threadIdx.x] = ballot(True)


def _dynamic(y, count):
    held = cuda.shared.array(0, types.float32)
    held[cuda.threadIdx.x] = cuda.threadIdx.x
    cuda.syncthreads()
    y[cuda.threadIdx.x] = held[count - 1 - cuda.threadIdx.x]


def _read(x, y, i):
    y[0] = load(x, i)


def _write(x, y, i):
    store(x, i, y[0])


def _read_vector(x, y, i):
    held = cuda.local.array(FOUR, types.float32)
    load_vector(held, x, i)
    y[0] = held[0]


def _index(x, y, i):
    y[i] = load(x, 0)


def test_cuda_threads_take_turns_in_either_order(device, order):
    y = device.put([-1.0], np.float32)
    kernel(block=64, y=F32)(_number)(1, y)
    assert y[0] == (63 if order == "forward" else 0)


def test_cuda_a_missing_barrier_shows(device, order):
    neighbours = kernel(block=64, y=F32, wait=INT)(_neighbours)
    right = np.roll(np.arange(64), -1)
    y = device.put(np.zeros(64), np.float32)
    neighbours(1, y, 1)
    assert np.array_equal(y, right)
    neighbours(1, y, 0)
    assert np.isnan(y).sum() == (63 if order == "forward" else 1)


def test_cuda_unwritten_memory_is_poison(device):
    y, k = device.put(np.zeros(2), np.float32), device.put([0], np.int32)
    kernel(block=1, y=F32, k=I32)(_unwritten)(1, y, k)
    assert np.isnan(y).all()
    assert k[0] == -1


def test_cuda_a_block_does_not_see_the_last_one_s_shared_memory(device):
    y = device.put(np.zeros(2), np.float32)
    kernel(block=1, y=F32)(_left_behind)(2, y)
    assert y[0] == 7
    assert math.isnan(y[1])


def test_cuda_who_returned_is_not_waited_for(device, order):
    y = device.put(np.zeros(40), np.float32)
    kernel(block=64, y=F32)(_early_return)(1, y)
    assert np.array_equal(y, np.arange(40)[::-1])


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (_some_lanes, r"wait for ever at warp 0 of block"),
        (_barrier_or_warp, r"wait for ever at barrier, warp 0 of block"),
        (_different_collectives, r"warp 0: threads meet here in different ways"),
    ],
)
def test_cuda_divergence_is_reported(device, order, body, error):
    with pytest.raises(RuntimeError, match=error):
        kernel(block=64, y=F32)(body)(1, device.put(np.zeros(64), np.float32))


def test_cuda_dynamic_shared_memory(device, order):
    y = device.put(np.zeros(48), np.float32)
    kernel(block=48, shared=48 * 4, y=F32, count=INT)(_dynamic)(1, y, 48)
    assert np.array_equal(y, np.arange(48)[::-1])


@pytest.mark.parametrize(
    ("body", "i", "error"),
    [
        (_read, 8, r"thread \[0, 0, 0\] of block \[0, 0, 0\]: elements 8 to 9 of an array of 8"),
        (_read, -1, r"elements -1 to 0"),
        (_write, 8, r"elements 8 to 9"),
        (_index, 1, r"elements 1 to 2 of an array of 1"),
        (_read_vector, 5, r"elements 5 to 9 of an array of 8"),
        (_read_vector, 2, r"16 bytes at element 2 is not aligned"),
    ],
)
def test_cuda_accesses_outside_or_unaligned_raise(device, body, i, error):
    probe = kernel(block=1, x=STORAGE, y=F32, i=INT)(body)
    with pytest.raises(IndexError, match=error):
        probe(1, device.put(np.ones(8), np.float32), device.put([1.0], np.float32), i)


def test_cuda_a_null_pointer_is_not_read(device):
    with pytest.raises(IndexError, match="array of 0"):
        kernel(block=1, x=STORAGE, y=F32, i=INT)(_read)(1, None, device.put([1.0], np.float32), 0)


@pytest.mark.parametrize(
    ("arguments", "grid", "error", "says"),
    [
        (dict(x=np.ones(8)), 1, TypeError, r"x points to float64, expected float32 or float16 or bfloat16"),
        (dict(y=np.ones(8, np.int32)), 1, TypeError, r"y points to int32, expected float32"),
        (dict(z=np.ones(8, np.float16)), 1, TypeError, r"z points to float16, expected float32"),
        (dict(x=np.ones(8, np.float32)[::2]), 1, ValueError, r"dense memory, not shape \(4,\) with strides \(8,\)"),
        (dict(i=2**31), 1, OverflowError, "2147483648"),
        (dict(i=1.5), 1, TypeError, "integer"),
        (dict(), (1, 65536), RuntimeError, r"no GPU takes a grid of \(1, 65536, 1\)"),
    ],
)
def test_cuda_arguments_are_checked_as_declared(device, arguments, grid, error, says):
    def _probe(x, z, y, i):
        pass

    given = dict(x=np.ones(8, np.float32), z=None, y=np.ones(1, np.float32), i=0) | arguments
    with pytest.raises(error, match=says):
        kernel(block=1, x=STORAGE, z=STORAGE, y=F32, i=INT)(_probe)(grid, *given.values())
