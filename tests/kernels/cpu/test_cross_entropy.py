"""Cross-entropy: digits that survive large logits and long sums, and logits that are not finite."""

import importlib

import numpy as np
import pytest

from nnk.kernels import cpu, reference

module = importlib.import_module("nnk.kernels.cpu.cross_entropy")


def both(x, target, weight=None, *, backend=cpu, dy=1.0, **options):
    loss, lse = backend.cross_entropy(x, target, weight, **options)
    dy = np.asarray(dy, x.dtype) if options.get("reduction") != "none" else np.full(len(x), dy, x.dtype)
    return loss, backend.cross_entropy_backward(dy, x, target, weight, lse, **options)


def logits(rows, classes, seed=0):
    """Multiples of 1/4, so that adding a large integer rounds nothing."""
    rng = np.random.default_rng(seed)
    return (rng.integers(-16, 17, (rows, classes)) / 4).astype(np.float32), rng.integers(0, classes, rows)


@pytest.mark.parametrize("classes", [2, 10, 1000])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("offset", [-1e6, 1e4, 2.0**20])
def test_an_offset_of_all_logits_changes_nothing(offset, smoothing, classes):
    """lse is rounded to 0.06 at 1e6: loss and gradient must not be."""
    x, target = logits(37, classes)
    want = both(x, target, label_smoothing=smoothing, reduction="none")
    got = both(x + np.float32(offset), target, label_smoothing=smoothing, reduction="none")
    assert np.allclose(got[0], want[0], rtol=1e-6, atol=1e-6)
    assert np.allclose(got[1], want[1], rtol=1e-6, atol=3e-7)


@pytest.mark.parametrize("classes", [1, 3, 17, 1000, 40_000])
def test_a_row_of_the_gradient_adds_up_to_zero(classes):
    x, target = logits(5, classes)
    _, dx = both(x, target, label_smoothing=0.2, reduction="sum")
    assert np.abs(dx.sum(axis=1, dtype=np.float64)).max() < 3e-6


def test_a_long_row_keeps_its_digits():
    x = np.random.default_rng(0).standard_normal((1, 1_000_003)).astype(np.float32)
    target = np.array([5])
    _, want = both(x.astype(np.float64), target, backend=reference)
    _, dx = both(x, target)
    assert np.allclose(dx, want, rtol=1.6e-6, atol=0)  # one running sum a lane loses 2.7e-6


def test_a_mean_over_many_rows_keeps_its_digits():
    x, target = logits(300_001, 3)
    want, _ = both(x.astype(np.float64), target, backend=reference)
    got, _ = both(x, target)
    assert got == pytest.approx(want, rel=1.5e-7)


INF = np.inf


@pytest.mark.parametrize(("row", "target", "loss"), [
    ([0, -INF, 0], 0, np.log(2)),
    ([0, -INF, 0], 1, INF),
    ([-INF, 3, -INF], 1, 0),
    ([0, INF, 0], 0, np.nan),
    ([0, INF, 0], 1, np.nan),
    ([-INF, -INF, -INF], 0, np.nan),
    ([0, np.nan, 0], 0, np.nan),
    ([np.nan, INF, -INF], 2, np.nan),
])
@pytest.mark.parametrize("width", [3, 16, 35])
def test_logits_that_are_not_finite(row, target, loss, width):
    """As in PyTorch. The rows beside are untouched, and an ignored row has no gradient whatever it holds."""
    x = np.full((3, width), -INF, np.float32)
    x[:, -3:] = [[1, 2, 3], row, [1, 2, 3]]
    target = np.array([width - 1, width - 3 + target, width - 1])
    got, dx = both(x, target, reduction="none")
    assert got[1] == pytest.approx(loss, rel=1e-6, nan_ok=True)
    assert got[0] == got[2] == pytest.approx(np.log1p(np.exp(-1) + np.exp(-2)), rel=1e-6)
    with np.errstate(invalid="ignore"):
        _, want = both(x.astype(np.float64), target, backend=reference, reduction="none")
    assert np.allclose(dx, want, rtol=1e-6, atol=1e-7, equal_nan=True)
    target[1] = -100
    got, dx = both(x, target, reduction="none")
    assert got[1] == 0
    assert not dx[1].any()


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("threads", [2, 3, 7])
def test_every_number_of_threads_gives_the_same_bits(threads, reduction, monkeypatch):
    x, target = logits(5003, 19)
    weight = np.linspace(0.1, 2, 19, dtype=np.float32)
    options = {"label_smoothing": 0.1, "reduction": reduction, "ignore_index": 3}
    monkeypatch.setattr(module, "share", lambda work: 1)
    alone = both(x, target, weight, **options)
    monkeypatch.setattr(module, "share", lambda work: threads)
    for got, want in zip(both(x, target, weight, **options), alone):
        assert got.tobytes() == want.tobytes()


def test_a_scale_beyond_float32_is_infinite_not_an_error():
    x, target = logits(2, 3)
    weight = np.float32([1e-30] * 3)
    _, dx = both(x, target, weight, dy=1e30)
    assert not np.isfinite(dx).any()
