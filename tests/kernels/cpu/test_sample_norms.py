"""What the parity suite cannot see of group and layer norm on the CPU: digits kept at large means, threads."""

import numpy as np
import pytest

from nnk.kernels import cpu, reference
from nnk.kernels.cpu import _driver, _stream


@pytest.fixture
def threads():
    """set_num_threads, undone at the end."""
    before = _driver.get_num_threads()
    yield _driver.set_num_threads
    _driver.set_num_threads(before)


def draw(shape, mean=0.0, spread=1.0):
    rng = np.random.default_rng(sum(shape))
    return [a.astype(np.float32) for a in (rng.standard_normal(shape) * spread + mean, rng.standard_normal(shape))]


def group(kernels, x, dy, num_groups):
    weight, bias = np.random.default_rng(1).standard_normal((2, x.shape[1])).astype(x.dtype)
    y, mean, var = kernels.group_norm(x, weight, bias, num_groups=num_groups, eps=1e-5)
    gradients = kernels.group_norm_backward(dy, x, weight, mean, var, num_groups=num_groups, eps=1e-5)
    return dict(zip(("y", "mean", "var", "dx", "dweight", "dbias"), (y, mean, var, *gradients)))


def layer(kernels, x, dy, axes):
    shape = x.shape[-axes:]
    weight, bias = np.random.default_rng(1).standard_normal((2, *shape)).astype(x.dtype)
    y, mean, var = kernels.layer_norm(x, weight, bias, normalized_shape=shape, eps=1e-5)
    gradients = kernels.layer_norm_backward(dy, x, weight, mean, var, normalized_shape=shape, eps=1e-5)
    return dict(zip(("y", "mean", "var", "dx", "dweight", "dbias"), (y, mean, var, *gradients)))


def worst(norm, x, dy, option):
    """The largest error of each result, relative to the result's own largest value."""
    got, want = norm(cpu, x, dy, option), norm(reference, *(a.astype(np.float64) for a in (x, dy)), option)
    return {name: np.abs(got[name] - want[name]).max() / np.abs(want[name]).max() for name in want}


NORMS = [
    pytest.param(group, (3, 16, 16, 16), 4, id="groups"),
    pytest.param(group, (3, 5, 31, 17), 5, id="instances"),
    pytest.param(group, (1, 16, 61, 59), 2, id="one sample"),
    pytest.param(layer, (40, 300), 1, id="rows"),
    pytest.param(layer, (3, 16, 9, 9), 3, id="images"),
]


@pytest.mark.parametrize(("norm", "shape", "option"), NORMS)
@pytest.mark.parametrize(("mean", "spread"), [(1e3, 1e-2), (-1e4, 0.1), (1e5, 1.0)])
def test_a_large_mean_costs_no_digits(norm, shape, option, mean, spread):
    # The float32 that holds a mean of 1e5 is off by up to 0.4 % of the spread; neither y nor dx may show it.
    errors = worst(norm, *draw(shape, mean, spread), option)
    assert max(errors.values()) < 3e-6, errors


@pytest.mark.parametrize(("norm", "shape", "option"), NORMS)
@pytest.mark.parametrize("outlier", [1e2, 1e4, 1e7])
def test_a_first_value_far_away_is_no_bad_origin(norm, shape, option, outlier):
    x, dy = draw(shape)
    x.reshape(len(x), -1)[:, 0] = outlier
    errors = worst(norm, x, dy, option)
    assert max(errors.values()) < 1e-4, errors


@pytest.mark.parametrize(("norm", "shape", "option"), [
    (group, (64, 16, 16, 16), 4), (group, (3, 3, 131, 129), 3), (group, (1, 1500, 9, 9), 30), (layer, (1000, 70), 1),
    (layer, (5, 64, 19, 17), 3)])
def test_results_repeat_with_any_number_of_threads(norm, shape, option, threads):
    inputs = draw(shape)
    once = {}
    for n in (1, 2, 1, 2):
        threads(n)
        results = norm(cpu, *inputs, option)
        before = once.setdefault(n, results)
        assert all(np.array_equal(results[name], before[name]) for name in results)
    assert all(np.allclose(once[1][name], once[2][name], rtol=1e-4, atol=1e-4) for name in once[1])


def test_nothing_varies_and_no_epsilon():
    x = np.full((2, 4, 3), 3.0, np.float32)
    y, mean, var = cpu.group_norm(x, None, None, num_groups=2, eps=0.0)
    assert np.isnan(y).all()
    assert np.array_equal(mean, np.full((2, 2), 3))
    assert not var.any()
    y, mean, var = cpu.layer_norm(x, None, None, normalized_shape=(3,), eps=0.0)
    assert np.isnan(y).all()
    assert np.array_equal(mean, np.full((2, 4), 3))
    assert not var.any()


def test_rows_stay_as_they_lie():
    """No copies where the normalised axes are the innermost ones in memory, in whatever order."""
    images = np.ones((2, 5, 6, 3), np.float32).transpose(0, 3, 1, 2)
    y, *_ = cpu.layer_norm(images, None, None, normalized_shape=(3, 5, 6), eps=1e-5)
    assert y.strides == images.strides
    y, *_ = cpu.layer_norm(images, None, None, normalized_shape=(6,), eps=1e-5)
    assert y.flags.c_contiguous


@pytest.mark.parametrize(("norm", "shape", "option"), [(group, (2, 32, 5, 6), 4), (layer, (6, 48), 1)])
def test_results_written_past_the_caches_are_the_same(norm, shape, option, monkeypatch):
    inputs = draw(shape)
    before = norm(cpu, *inputs, option)
    monkeypatch.setattr(_stream, "_CACHE", 0)
    y = norm(cpu, *inputs, option)["y"]
    assert _stream.streams(y)
    for name, result in norm(cpu, *inputs, option).items():
        np.testing.assert_array_equal(result, before[name], err_msg=name)
