"""Cross-entropy with class probabilities: sharp and even targets, weights, smoothing, logits beyond exp's range."""

from __future__ import annotations

import numpy as np

from ._suite import Case, Cost, Suite, Terms, normal


def _huge(rng, shape):
    return rng.choice([-1e4, 1e4, 0.0, 1.0, 9999.0], shape)


def _not_finite(rng, shape):
    """Some rows with a NaN, some with +inf, some of nothing but -inf: their loss is NaN."""
    x = normal(rng, shape)
    x[::4, 3], x[1::4, 2], x[2::4] = np.nan, np.inf, -np.inf
    return x


def _case(
    name, rows, classes, *, values=None, sharp=False, weight=False, label_smoothing=0.0, reduction="mean", smooth=True
):
    def make(rng):
        target = rng.exponential(1, (rows, classes))
        if sharp:
            target = np.eye(classes)[rng.integers(0, classes, rows)]
        return {
            "x": 2 * normal(rng, (rows, classes)) if values is None else values(rng, (rows, classes)),
            "target": target / target.sum(axis=1, keepdims=True),
            "weight": rng.uniform(0.2, 2, classes) if weight else None,
            "dy": normal(rng, rows if reduction == "none" else ()),
            "label_smoothing": label_smoothing,
            "reduction": reduction,
        }

    return Case(name, make, smooth)


def _run(k, *, x, target, weight, dy, **options):
    loss = k.soft_cross_entropy(x, target, weight, **options)
    return {"y": loss, "dx": k.soft_cross_entropy_backward(dy, x, target, weight, **options)}


def _terms(*, x, target, weight, dy, reduction, label_smoothing):
    """log p is rounded like the row's largest distance from its top, and the target's share of the mass like 1."""
    rows, classes = x.shape
    finite = np.where(np.isfinite(x), x, 0)
    height = 1 + np.ptp(finite, axis=1) + np.log(classes)
    mass = target * (1 - label_smoothing) + label_smoothing / classes
    total = (mass if weight is None else weight * mass).sum(axis=1)
    scale = np.abs(np.broadcast_to(dy, rows)) / (max(1, rows) if reduction == "mean" else 1)
    size = height * total
    loss = {"none": Terms(1, size), "sum": Terms(rows, size.mean() if rows else 0.0)}
    return {
        "y": loss.get(reduction, Terms(1, size.mean() if rows else 0.0)),
        "dx": Terms(2, (scale * total * np.minimum(height, 30))[:, None]),
    }


soft_cross_entropy = Suite(
    cases=(
        _case("plain", 7, 10),
        _case("sum", 7, 10, reduction="sum"),
        _case("none", 7, 10, reduction="none"),
        _case("one_row", 1, 17),
        _case("one_class", 5, 1),
        _case("1000_classes", 3, 1000, weight=True),
        _case("1300_classes", 2, 1300),
        _case("many_rows", 2009, 3),
        _case("sharp", 33, 16, sharp=True),
        _case("weight", 19, 10, weight=True),
        _case("smoothing", 13, 10, label_smoothing=0.1),
        _case("smoothing_1", 13, 10, label_smoothing=1.0, reduction="none"),
        _case("everything", 37, 35, sharp=True, weight=True, label_smoothing=0.2, reduction="sum"),
        _case("empty", 0, 10, smooth=False),
        _case("empty_none", 0, 10, reduction="none"),
        _case("huge", 23, 10, values=_huge, reduction="none", smooth=False),
        _case("huge_sharp", 23, 10, values=_huge, sharp=True, smooth=False),
        _case("not_finite", 41, 7, values=_not_finite, reduction="none", smooth=False),
    ),
    run=_run,
    terms=_terms,
    gradients=("x",),
    bench=(_case("128 × 10", 128, 10), _case("256 × 1000", 256, 1000)),
    cost=lambda *, x, **_: {
        "soft_cross_entropy": Cost(2 * x.nbytes, 25 * x.size),
        "soft_cross_entropy_backward": Cost(3 * x.nbytes, 25 * x.size),
    },
)
