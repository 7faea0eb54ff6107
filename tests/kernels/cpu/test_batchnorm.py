"""What the parity suite cannot see of batch norm on the CPU: digits kept at large means, threads, joined pixels."""

import numpy as np
import pytest

from nnk.kernels import cpu, reference
from nnk.kernels.cpu import _driver


@pytest.fixture
def threads():
    """set_num_threads, undone at the end."""
    before = _driver.get_num_threads()
    yield _driver.set_num_threads
    _driver.set_num_threads(before)


def draw(shape, mean=0.0, spread=1.0):
    rng = np.random.default_rng(sum(shape))
    x = rng.standard_normal(shape) * spread + mean
    vectors = [rng.standard_normal(shape[1]) for _ in range(2)]
    return [a.astype(np.float32) for a in (x, rng.standard_normal(shape) + 0.5, *vectors)]


def train(kernels, x, dy, weight, bias, dtype=np.float32):
    x, dy, weight, bias = (a.astype(dtype) for a in (x, dy, weight, bias))
    running = np.zeros(x.shape[1], dtype), np.ones(x.shape[1], dtype)
    y, mean, invstd = kernels.batch_norm_train(x, weight, bias, *running, momentum=0.1, eps=1e-5)
    dx, dweight, dbias = kernels.batch_norm_train_backward(dy, x, weight, mean, invstd)
    names = ("y", "mean", "invstd", "running_mean", "running_var", "dx", "dweight", "dbias")
    return dict(zip(names, (y, mean, invstd, *running, dx, dweight, dbias)))


def worst(inputs, names=None):
    """The largest error of each result, relative to the result's own largest value."""
    got, want = train(cpu, *inputs), train(reference, *inputs, dtype=np.float64)
    return {n: np.abs(got[n] - want[n]).max() / np.abs(want[n]).max() for n in names or want}


@pytest.mark.parametrize(("mean", "spread"), [(1e3, 1e-2), (-1e4, 0.1), (1e5, 1.0)])
def test_a_large_mean_costs_no_digits(mean, spread):
    # The float32 that holds a mean of 1e5 is off by up to 0.4 % of the spread; neither y nor dx may show it.
    errors = worst(draw((8, 16, 16, 16), mean, spread))
    assert max(errors.values()) < 2e-6, errors


@pytest.mark.parametrize("outlier", [1e2, 1e4, 1e7])
def test_a_first_pixel_far_away_is_no_bad_origin(outlier):
    x, *rest = draw((8, 37, 14, 9))
    x[0, :, 0, 0] = outlier
    errors = worst((x, *rest))
    assert max(errors.values()) < 1e-4, errors


@pytest.mark.parametrize("channels", [1, 2, 3, 5, 16, 24, 31, 33, 64, 100, 130, 1025])
@pytest.mark.parametrize("pixels", [5, 63, 65, 1000])
def test_rows_of_joined_pixels_and_the_pixels_left_over(channels, pixels):
    errors = worst(draw((pixels, channels)), ("y", "mean", "dx", "dweight", "dbias"))
    assert max(errors.values()) < 1e-5, errors


@pytest.mark.parametrize("shape", [(64, 16, 16, 16), (4, 1500, 7, 7), (37, 3, 31, 29), (3, 70_000)])
def test_results_repeat_with_any_number_of_threads(shape, threads):
    inputs = draw(shape)
    once = {}
    for n in (1, 2, 1, 2):
        threads(n)
        results = train(cpu, *inputs)
        before = once.setdefault(n, results)
        assert all(np.array_equal(results[name], before[name]) for name in results)
    tolerance = {"rtol": 1e-4, "atol": 1e-4}
    assert all(np.allclose(once[1][name], once[2][name], **tolerance) for name in once[1])


def test_constants_hide_infinities_in_the_input():
    x, dy, weight, bias = draw((4, 3, 5, 5))
    x[0, 0] = np.inf
    dx, _, _ = cpu.batch_norm_eval_backward(dy, x, weight, bias, np.ones(3, np.float32), eps=1e-5)
    assert np.isfinite(dx).all()


def test_nothing_varies_and_no_epsilon():
    x = np.full((4, 2), 3.0, np.float32)
    with np.errstate(invalid="ignore"):
        y, mean, invstd = cpu.batch_norm_train(x, None, None, None, None, momentum=0.1, eps=0.0)
    assert np.array_equal(mean, [3, 3])
    assert np.isinf(invstd).all()
    assert np.isnan(y).all()
