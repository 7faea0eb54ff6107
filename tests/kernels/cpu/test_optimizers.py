"""One call for many tensors: the table of their addresses, the blocks, the threads."""

import ctypes

import numpy as np
import pytest

from nnk.kernels import cpu, reference
from nnk.kernels.cpu import _driver
from nnk.kernels.cpu._blocks import BLOCK
from nnk.kernels.cpu._tensors import HEADER, tensor_table

SHAPES = [(), (0, 3), (1,), (BLOCK - 1,), (BLOCK,), (0,), (BLOCK + 1,), (3 * BLOCK + 5,), (40, 50, 3, 3), (7,)]


def draw(shapes=SHAPES, lists=4):
    rng = np.random.default_rng(0)
    return [[np.asarray(rng.uniform(0.1, 2, shape), np.float32) for shape in shapes] for _ in range(lists)]


def test_numpy_keeps_an_arrays_address_behind_the_object_header():
    lists = draw()
    table, blocks, floats = tensor_table(*lists)
    assert floats == sum(x.size for x in lists[0])
    assert blocks == table[0, -1] == sum(-(-x.size // BLOCK) for x in lists[0])
    for row, arrays in zip(table[2:], lists):
        for thing, x in zip(row, arrays):
            assert ctypes.c_int64.from_address(int(thing) + HEADER).value == x.ctypes.data


@pytest.mark.parametrize("threads", [1, 2])
def test_every_element_of_every_tensor_moves_once(threads):
    got, want = draw(), [[x.astype(np.float64) for x in arrays] for arrays in draw()]
    options = {"lr": 0.1, "beta1": 0.9, "beta2": 0.99, "eps": 1e-8, "weight_decay": 0.1, "step": 3}
    before = _driver.get_num_threads()
    _driver.set_num_threads(threads)
    try:
        cpu.adamw(*got, **options)
    finally:
        _driver.set_num_threads(before)
    reference.adamw(*want, **options)
    for a, b in zip(got, want):
        for x, y in zip(a, b):
            np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)


def test_a_dead_parameter_leaves_its_moments_alone():
    params, grads, exp_avgs, exp_avg_sqs = draw([(20,)])
    params[0][3] = np.nan
    cpu.adam(params, grads, exp_avgs, exp_avg_sqs, lr=0.1, beta1=0.9, beta2=0.99, eps=1e-8, step=1)
    assert np.isfinite(exp_avgs[0]).all()
    assert np.isfinite(exp_avg_sqs[0]).all()


def test_no_parameters():
    cpu.sgd([], [], None, lr=0.1)
    cpu.sgd([np.zeros((0,), np.float32)], [np.zeros((0,), np.float32)], None, lr=0.1)
