import copy
import pickle

import numpy as np
import pytest

from nnk import nn


def test_data_is_a_contiguous_float_array():
    data = np.ones((2, 3), np.float32)
    assert nn.Parameter(data).data is data
    assert nn.Parameter(data.T).data.flags.c_contiguous
    assert nn.Parameter(np.broadcast_to(np.float32(1), (3,))).data.flags.writeable
    assert nn.Parameter([1.0, 2.0]).dtype == np.float32
    assert nn.Parameter(np.float64(3)).shape == ()
    with pytest.raises(TypeError, match="data has dtype int64"):
        nn.Parameter(np.zeros(3, np.int64))


def test_writing_into_data_and_replacing_it():
    parameter = nn.Parameter(np.zeros(3, np.float32))
    parameter.data[...] = 2
    parameter.data += 1
    np.testing.assert_array_equal(parameter.data, [3, 3, 3])
    parameter.data = np.zeros((2, 2))
    assert (parameter.shape, parameter.ndim, parameter.size, parameter.dtype) == ((2, 2), 2, 4, np.float64)


def test_any_array_of_the_shape_is_a_gradient():
    parameter = nn.Parameter(np.zeros((2, 3), np.float32))
    for grad in (np.ones((3, 2)).T, np.ones((2, 3), np.float16), [[1, 2, 3], [4, 5, 6]], None):
        parameter.grad = grad
    with pytest.raises(ValueError, match=r"grad has shape \(3, 2\), expected the parameter's, \(2, 3\)"):
        parameter.grad = np.ones((3, 2))


def test_copy_and_pickle():
    parameter = nn.Parameter(np.arange(3.0), requires_grad=False)
    parameter.grad = np.ones(3)
    for twin in (copy.deepcopy(parameter), pickle.loads(pickle.dumps(parameter))):
        np.testing.assert_array_equal(twin.data, parameter.data)
        np.testing.assert_array_equal(twin.grad, parameter.grad)
        assert twin.data is not parameter.data
        assert not twin.requires_grad
    assert "requires_grad=False" in repr(parameter)


def at_most_one(data):
    data.clip(max=1, out=data)


def test_copies_keep_the_constraint():
    parameter = nn.Parameter(np.arange(3.0), constraint=at_most_one)
    for twin in (copy.deepcopy(parameter), copy.copy(parameter)):
        assert twin.constraint is at_most_one
    assert nn.Parameter(np.arange(3.0)).constraint is None
