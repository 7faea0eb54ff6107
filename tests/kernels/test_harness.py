"""The parity harness catches planted errors: a test of the tests."""

from types import SimpleNamespace

import numpy as np
import pytest

from nnk.kernels import parity, reference
from nnk.kernels.ops import OPS

BY_NAME = {op.name: op for op in OPS}


def first_case(op, name=None):
    return next(case for case in op.suite.cases if name in (None, case.name))


def backend_with(op, **replaced):
    functions = {name: getattr(reference, name) for name in op.functions}
    return SimpleNamespace(**(functions | replaced))


def excess(op_name, case_name=None, **replaced):
    op = BY_NAME[op_name]
    case = first_case(op, case_name)
    return max(parity.compare(op.suite, case, backend_with(op, **replaced)).values())


def watch(guarded, op_name, **replaced):
    op = BY_NAME[op_name]
    inputs = parity.make_inputs(op.suite.cases[0], np.float32)
    op.suite.run(guarded(backend_with(op, **replaced), op), **inputs)


def add_into(value, out):
    """What an accumulating kernel does that forgets to start from zero."""
    if out is None:
        return value
    out += value
    return out


def test_the_untouched_reference_passes():
    for op in OPS:
        assert max(parity.compare(op.suite, op.suite.cases[0], backend_with(op)).values()) <= 1


def test_one_missing_tap_is_seen():
    def conv2d(x, weight, bias=None, **options):
        weight = weight.copy()
        weight[:, :, -1, -1] = 0
        return reference.conv2d(x, weight, bias, **options)

    assert excess("conv2d", conv2d=conv2d) > 1e3


def test_one_missing_image_in_a_sum_is_seen():
    assert excess("conv2d", "many_pixels", conv2d_bgrad=lambda dy: reference.conv2d_bgrad(dy[1:])) > 1e3


def test_half_precision_inside_is_seen():
    half = lambda x, weight, bias, precision: reference.linear(  # noqa: E731
        x.astype(np.float16).astype(np.float32), weight, bias
    )
    assert excess("linear", linear=half) > 10


def test_variance_as_a_difference_of_squares_is_seen():
    def batch_norm_train(x, weight, bias, *running, momentum, eps):
        results = reference.batch_norm_train(x, weight, bias, *running, momentum=momentum, eps=eps)
        mean = x.mean(axis=(0, 2, 3))
        var = (x * x).mean(axis=(0, 2, 3)) - mean**2
        return results[0], results[1], 1 / np.sqrt(np.maximum(var, 0) + np.float32(eps))

    assert excess("batch_norm_train", "4d", batch_norm_train=batch_norm_train) <= 1
    assert excess("batch_norm_train", "large_mean", batch_norm_train=batch_norm_train) > 1e3


def test_the_last_of_equal_maxima_is_seen():
    def max_pool2d(x, **window):
        y, indices = reference.max_pool2d(x[:, :, ::-1, ::-1], **window)
        taps = window["kernel_size"][0] * window["kernel_size"][1]
        return y[:, :, ::-1, ::-1], (taps - 1 - indices[:, :, ::-1, ::-1]).astype(np.uint8)

    assert excess("max_pool2d", "2x2", max_pool2d=max_pool2d) <= 1
    assert excess("max_pool2d", "zeros", max_pool2d=max_pool2d) == np.inf


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(lambda y: y.astype(np.float64), id="dtype"),
        pytest.param(lambda y: y[:1], id="shape"),
        pytest.param(lambda y: np.where(y > 0, np.nan, y).astype(np.float32), id="nan"),
        pytest.param(lambda y: y.tolist(), id="no_array"),
    ],
)
def test_a_result_of_another_kind_is_beyond_tolerance(wrong):
    assert excess("add", add=lambda a, b: wrong(reference.add(a, b))) == np.inf


@pytest.mark.parametrize(
    ("relu", "message"),
    [
        pytest.param(lambda x, *, out=None: add_into(reference.relu(x), out), "other bits", id="accumulates"),
        pytest.param(
            lambda x, *, out=None: reference.relu(x, out=out).copy(), "did not return out", id="copies"
        ),
        pytest.param(lambda x, *, out=None: x, "shares memory", id="aliases"),
        pytest.param(
            lambda x, *, out=None: np.negative(x, out=x) if out is None else reference.relu(x, out=out),
            "shares memory",
            id="in_place",
        ),
    ],
)
def test_a_careless_function_is_caught(guarded, relu, message):
    with pytest.raises(AssertionError, match=message):
        watch(guarded, "relu", relu=relu)


def test_a_changed_input_is_caught(guarded):
    def linear_bgrad(dy, *, out=None):
        result = reference.linear_bgrad(dy, out=out)
        dy[0] = 0
        return result

    with pytest.raises(AssertionError, match=r"changed an input|other bits"):
        watch(guarded, "linear", linear_bgrad=linear_bgrad)


def test_writing_past_the_end_is_caught(guarded):
    def relu(x, *, out=None):
        result = reference.relu(x, out=out)
        if out is not None:
            np.lib.stride_tricks.as_strided(out, (out.size + 5,), (out.itemsize,))[-1] = 0
        return result

    # In a strided array the address may lie before the end, where it spoils a value: caught as well.
    with pytest.raises(AssertionError, match=r"outside out|other bits"):
        watch(guarded, "relu", relu=relu)


def test_updating_past_the_end_of_a_parameter_is_caught(guarded):
    def sgd(params, grads, buffers, **options):
        reference.sgd(params, grads, buffers, **options)
        np.lib.stride_tricks.as_strided(params[0], (params[0].size + 1,), (4,))[-1] = 0

    with pytest.raises(AssertionError, match="outside what it updates"):
        watch(guarded, "sgd", sgd=sgd)


def test_a_result_that_changes_later_is_caught(guarded):
    shared = np.empty((2, 3, 5, 7), np.float32)

    def relu(x, *, out=None):
        reference.relu(x, out=shared)
        shared.flat[0] += 1 if out is not None else 0
        return shared if out is None else reference.relu(x, out=out)

    with pytest.raises(AssertionError, match=r"changed later|other bits"):
        watch(guarded, "relu", relu=relu)
