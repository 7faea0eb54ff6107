"""Memory order: what counts as channels-last or dense, and what conversions give."""

import itertools

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided

from nnk.kernels.cpu._layout import (
    channels_last,
    contiguous,
    deliver,
    dense,
    empty_image,
    empty_like,
    empty_like_image,
    is_channels_last,
    like,
    memory_order,
)

SHAPES = [
    (2, 3, 4, 5), (1, 3, 4, 5), (2, 1, 4, 5), (2, 3, 1, 1), (1, 1, 4, 5), (1, 1, 1, 1), (2, 3, 4, 1), (4, 1, 1, 1),
]


def filled(shape, order=None, dtype=np.float32):
    """0, 1, 2, ... in logical order, over memory in which the axes lie in `order`."""
    order = tuple(range(len(shape))) if order is None else order
    x = np.empty([shape[a] for a in order], dtype).transpose(np.argsort(order).astype(int))
    x[...] = np.arange(x.size).reshape(shape)
    return x


def in_memory(x):
    """The elements of a dense array in the order of their addresses."""
    return as_strided(x, (x.size,), (x.itemsize,)) if x.size else x.ravel()


def odd_strides(x):
    """The same array with senseless strides on the axes of size 1."""
    return as_strided(x, x.shape, [12344 if n == 1 else s for n, s in zip(x.shape, x.strides)])


VIEWS = {
    "every second column": lambda x: np.repeat(x, 2, axis=3)[..., ::2],
    "backwards": lambda x: x[::-1, ::-1, ::-1, ::-1],
    "rows backwards": lambda x: x[:, :, ::-1],
    "a crop": lambda x: np.pad(x, ((0, 0), (0, 0), (1, 2), (3, 4)))[:, :, 1:-2, 3:-4],
    "some channels": lambda x: np.concatenate([x, x], axis=1)[:, : x.shape[1]],
    "broadcast": lambda x: np.broadcast_to(x[:1, :1], x.shape),
    "C order": lambda x: x,
    "Fortran order": np.asfortranarray,
}


# ---------------------------------------------------------------- channels-last
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_channels_last_memory_is_taken_as_it_is(shape):
    x = filled(shape, (0, 2, 3, 1))
    for y in (x, odd_strides(x)):
        assert is_channels_last(y)
        assert channels_last(y) is y


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_c_order_is_channels_last_only_where_it_is_the_same(shape):
    for x in (filled(shape), odd_strides(filled(shape))):
        assert is_channels_last(x) is (shape[1] == 1 or shape[2] * shape[3] == 1)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", VIEWS)
def test_any_image_comes_out_channels_last(name, shape):
    x = VIEWS[name](filled(shape))
    want = x.copy()
    y = channels_last(x)
    assert is_channels_last(y)
    assert np.array_equal(y, want)
    assert np.array_equal(in_memory(y), want.transpose(0, 2, 3, 1).ravel())
    assert np.array_equal(x, want)


def test_other_ranks_and_types():
    for shape in ((), (3,), (2, 3), (2, 3, 4), (2, 3, 2, 2, 2)):
        y = channels_last(filled(shape)[..., ::-1] if shape else filled(shape))
        want = np.moveaxis(y, 1, -1) if len(shape) > 2 else y
        assert np.array_equal(in_memory(y), want.ravel())
    for dtype in (np.uint8, np.int32, np.int64):
        y = channels_last(filled((2, 3, 4, 5), dtype=dtype))
        assert y.dtype == dtype
        assert is_channels_last(y)


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 0, 4, 5), (2, 3, 0, 5)], ids=str)
def test_images_without_elements(shape):
    for function in (channels_last, contiguous, dense, empty_like_image):
        assert function(filled(shape)).shape == shape
        assert function(filled(shape)[::-1, :, ::-1]).shape == shape
    assert empty_like(dense(filled(shape))).shape == shape


def test_new_images_are_channels_last():
    for x in (empty_image(2, 3, 4, 5), empty_like_image(filled((2, 3, 4, 5)))):
        assert (x.shape, x.dtype) == ((2, 3, 4, 5), np.float32)
        assert x.strides == (240, 4, 60, 12)
    assert empty_image(2, 3, 4, 5, np.dtype(np.uint8)).strides == (60, 1, 15, 3)
    assert empty_like_image(filled((5, 4), (1, 0))).strides == (16, 4)
    assert empty_like_image(filled(())).shape == ()


# ---------------------------------------------------------------- any dense order
@pytest.mark.parametrize("order", list(itertools.permutations(range(4))), ids=str)
def test_every_order_of_axes_is_dense_and_kept(order):
    x = filled((2, 3, 4, 5), order)
    assert memory_order(x) == order
    assert dense(x) is x
    assert empty_like(x).strides == x.strides


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 2, 3, 1), (3, 1, 0, 2)], ids=str)
def test_axes_of_size_one_do_not_count(order, shape):
    x = odd_strides(filled(shape, order))
    found = memory_order(x)
    assert sorted(found) == [0, 1, 2, 3]
    assert [a for a in found if shape[a] > 1] == [a for a in order if shape[a] > 1]
    assert dense(x) is x
    y = empty_like(x)
    y[...] = x
    assert np.array_equal(in_memory(y), in_memory(x))


@pytest.mark.parametrize("name", ["every second column", "backwards", "rows backwards", "a crop", "broadcast"])
def test_gaps_are_closed(name):
    x = VIEWS[name](filled((2, 3, 4, 5)))
    assert memory_order(x) is None
    y = dense(x)
    assert is_channels_last(y)
    assert np.array_equal(y, x)


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 2, 3, 1), (3, 1, 0, 2)], ids=str)
def test_like_brings_arrays_into_step(order, name):
    model = filled((2, 3, 4, 5), order)
    x = VIEWS[name](filled((2, 3, 4, 5)))
    y = like(x, model)
    assert np.array_equal(y, x)
    assert np.array_equal(in_memory(y), x.transpose(order).ravel())
    assert like(y, model) is y


def test_like_sees_through_axes_of_size_one():
    model = odd_strides(filled((2, 1, 4, 5)))
    x = filled((2, 1, 4, 5), (0, 2, 3, 1))
    assert like(x, model) is x


def test_contiguous():
    x = filled((3, 4))
    assert contiguous(x) is x
    for view in (x.T, x[:, ::2], x[::-1], np.broadcast_to(x[0], (3, 4)), filled((2, 3, 4, 5), (0, 2, 3, 1))):
        y = contiguous(view)
        assert y.flags.c_contiguous
        assert y.dtype == x.dtype
        assert np.array_equal(y, view)


# ---------------------------------------------------------------- where results go
def test_results_are_delivered():
    y, out = filled((2, 3)), np.full((4, 3), -1, np.float32)
    assert deliver(y, None) is y
    assert deliver(y, y) is y
    target = out[::-2]
    assert deliver(y, target) is target
    assert np.array_equal(out, [[-1] * 3, [3, 4, 5], [-1] * 3, [0, 1, 2]])
