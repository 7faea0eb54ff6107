import numpy as np
import pytest

from nnk.kernels import reference
from nnk.kernels.ops import OPS

CASES = next(op for op in OPS if op.name == "batch_norm_train").suite.cases


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_full_chain_equals_the_collapsed_form(case):
    inputs = case.make(np.random.default_rng(0))
    x, weight = inputs["x"], inputs["weight"]
    _, mean, invstd = reference.batch_norm_train(
        x, weight, inputs["bias"], None, None, momentum=0.1, eps=inputs["eps"]
    )
    arguments = (inputs["dy"], x, weight, mean, invstd)
    collapsed = reference.batch_norm_train_backward(*arguments)
    chain = reference.batch_norm_train_backward_chain(*arguments)
    # A mean of 1e3 beside deviations of 1e-2 leaves 11 of float64's 16 digits.
    digits = 1e-8 if "large_mean" in case.name else 1e-12
    scale = np.nanmax(invstd, initial=1)
    for a, b in zip(collapsed, chain):
        np.testing.assert_allclose(a, b, rtol=digits, atol=digits * scale)


def test_the_chain_writes_into_out():
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((2, 3, 4, 5)), rng.standard_normal((2, 3, 4, 5))
    _, mean, invstd = reference.batch_norm_train(x, None, None, None, None, momentum=0.1, eps=1e-5)
    out = np.full((2, 3, 4, 5), np.nan), np.full(3, np.nan), np.full(3, np.nan)
    returned = reference.batch_norm_train_backward_chain(dy, x, None, mean, invstd, out=out)
    assert all(a is b for a, b in zip(returned, out))
    plain = reference.batch_norm_train_backward_chain(dy, x, None, mean, invstd)
    assert all(np.array_equal(a, b) for a, b in zip(plain, out))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_statistics_survive_a_large_mean(dtype):
    x = (1e4 + 1e-1 * np.random.default_rng(0).standard_normal((8, 3, 16, 16))).astype(dtype)
    _, mean, invstd = reference.batch_norm_train(x, None, None, None, None, momentum=0.1, eps=0.0)
    exact = x.astype(np.longdouble)
    np.testing.assert_allclose(mean, exact.mean(axis=(0, 2, 3)), rtol=np.finfo(dtype).eps)
    np.testing.assert_allclose(1 / invstd, exact.std(axis=(0, 2, 3)), rtol=1e-5)


def test_training_normalises():
    x = np.random.default_rng(0).standard_normal((16, 5, 6, 7)) * 3 + 11
    y, _, _ = reference.batch_norm_train(x, None, None, None, None, momentum=0.1, eps=0.0)
    np.testing.assert_allclose(y.mean(axis=(0, 2, 3)), 0, atol=1e-12)
    np.testing.assert_allclose(y.var(axis=(0, 2, 3)), 1, rtol=1e-12)


def test_running_statistics_move_by_momentum_and_hold_the_unbiased_variance():
    x = np.random.default_rng(0).standard_normal((6, 2))
    mean, var = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    reference.batch_norm_train(x, None, None, mean, var, momentum=0.25, eps=1e-5)
    np.testing.assert_allclose(mean, 0.75 * np.array([1, 2]) + 0.25 * x.mean(axis=0))
    np.testing.assert_allclose(var, 0.75 * np.array([3, 4]) + 0.25 * x.var(axis=0, ddof=1))


def test_an_empty_batch_leaves_the_running_statistics_alone():
    mean, var = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    y, _, _ = reference.batch_norm_train(np.empty((0, 2)), None, None, mean, var, momentum=0.25, eps=1e-5)
    assert y.shape == (0, 2)
    assert (mean.tolist(), var.tolist()) == ([1, 2], [3, 4])
