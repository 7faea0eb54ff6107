"""What the parity suite cannot see of batch norm with ReLU on the CPU: the kink itself, joined pixels, threads."""

import numpy as np
import pytest

from nnk.kernels import cpu, parity
from nnk.kernels.cases import batchnorm_relu as cases
from nnk.kernels.cpu import _driver, _stream
from nnk.kernels.reference.batchnorm import batch_norm_train

SUITE = cases.batch_norm_relu


@pytest.fixture
def threads():
    """set_num_threads, undone at the end."""
    before = _driver.get_num_threads()
    yield _driver.set_num_threads
    _driver.set_num_threads(before)


def train(x, weight, bias, residual, dy):
    """y and the gradients (dx, dweight, dbias, dresidual)."""
    y, mean, invstd, mask = cpu.batch_norm_relu_train(
        x, weight, bias, None, None, residual, momentum=0.0, eps=1e-5
    )
    dy = dy(y) if callable(dy) else dy
    return y, *cpu.batch_norm_relu_train_backward(dy, x, weight, mean, invstd, mask, residual=residual is not None)


@pytest.mark.parametrize("case", [case for case in SUITE.cases if case.smooth], ids=lambda case: case.name)
def test_smooth_cases_keep_away_from_the_kink(case):
    inputs = case.make(np.random.default_rng(0))
    vectors = inputs["weight"], inputs["bias"], None, None
    y, _, _ = batch_norm_train(inputs["x"], *vectors, momentum=0.0, eps=inputs["eps"])
    y = y if inputs["residual"] is None else y + inputs["residual"]
    assert np.abs(y).min(initial=1) > 0.01


@pytest.mark.parametrize("with_residual", [False, True])
@pytest.mark.parametrize("channels", [1, 3, 16, 33, 64])
def test_the_backward_sees_the_kink_where_the_forward_saw_it(channels, with_residual):
    # Few different values, and a bias that puts one of them on the kink: y there is 0 or a rounding error.
    rng = np.random.default_rng(channels)
    x = rng.integers(-8, 9, (64, channels, 5, 7)).astype(np.float32) / 7 + 0.3
    weight = rng.uniform(-2, 2, channels).astype(np.float32)
    bias = -cpu.batch_norm_train(x, weight, None, None, None, momentum=0.0, eps=1e-5)[0][0, :, 0, 0]
    residual = np.round(rng.standard_normal(x.shape)).astype(np.float32) if with_residual else None

    def poisoned(y):
        return np.where(y > 0, 1, np.nan).astype(np.float32)

    y, dx, dweight, dbias, dresidual = train(x, weight, bias, residual, poisoned)
    assert with_residual or (y[0, :, 0, 0] < 1e-5).all()
    assert all(np.isfinite(g).all() for g in (dx, dweight, dbias))
    np.testing.assert_array_equal(dbias, (y > 0).sum(axis=(0, 2, 3)))
    if with_residual:
        np.testing.assert_array_equal(dresidual, y > 0)


@pytest.mark.parametrize("residuals", [None, cases.normal])
@pytest.mark.parametrize("channels", [1, 2, 3, 5, 16, 24, 31, 33, 64, 100, 130, 1025])
@pytest.mark.parametrize("pixels", [4, 63, 65, 1000])
def test_rows_of_joined_pixels_and_the_pixels_left_over(channels, pixels, residuals):
    case = cases.case("drawn", (pixels, channels), residuals=residuals)
    excess = parity.compare(SUITE, case, cpu)
    assert max(excess.values()) <= 1, excess


@pytest.mark.parametrize("shape", [(8, 64, 14, 14), (9, 3, 31, 29), (4, 33, 8, 8)])
def test_past_the_caches_or_not_the_bits_are_the_same(shape, monkeypatch):
    inputs = parity.make_inputs(cases.case("drawn", shape, residuals=cases.normal), np.float32)
    inputs = [inputs[name] for name in ("x", "weight", "bias", "residual", "dy")]
    results = []
    for smallest in (0, 1 << 60):
        monkeypatch.setattr(_stream, "_CACHE", smallest)
        eval_dx, *_ = cpu.batch_norm_eval_backward(inputs[4], inputs[0], *inputs[1:3], np.abs(inputs[2]), eps=0.1)
        results.append([eval_dx, *train(*inputs)])
    streamed, stored = results
    assert all(np.array_equal(a, b) for a, b in zip(streamed, stored))


@pytest.mark.parametrize("residuals", [None, cases.normal])
@pytest.mark.parametrize("shape", [(64, 16, 16, 16), (4, 1500, 7, 7), (37, 3, 31, 29), (4, 70_000)])
def test_results_repeat_with_any_number_of_threads(shape, residuals, threads):
    inputs = parity.make_inputs(cases.case("drawn", shape, residuals=residuals), np.float32)
    x, weight, bias, residual, dy = (inputs[name] for name in ("x", "weight", "bias", "residual", "dy"))
    once = {}
    for n in (1, 2, 1, 2):
        threads(n)
        results = [r for r in train(x, weight, bias, residual, dy) if r is not None]
        before = once.setdefault(n, results)
        assert all(np.array_equal(a, b) for a, b in zip(results, before))
    assert all(np.allclose(a, b, rtol=1e-4, atol=1e-3) for a, b in zip(once[1], once[2]))
