"""Cross-entropy: every option, rows without a say, logits beyond the range of exp."""

from __future__ import annotations

import numpy as np

from ._suite import Case, Cost, Suite, Terms, normal


def _normal(rng, shape):
    return normal(rng, shape) * 2


def _huge(rng, shape):
    return rng.choice([-1e4, 1e4, 0.0, 1.0, 9999.0], shape)


def _equal(rng, shape):
    return np.full(shape, 3.0)


def _not_finite(rng, shape):
    """Some rows with a NaN, some with +inf, some of nothing but -inf: their loss is NaN."""
    x = normal(rng, shape)
    x[::5, 3] = np.nan
    x[1::5, 2] = np.inf
    x[2::5] = -np.inf
    return x


def _case(
    name,
    rows,
    classes,
    *,
    values=_normal,
    weight=False,
    ignored=0.0,
    masked=False,
    smooth=True,
    ignore_index=-100,
    label_smoothing=0.0,
    reduction="mean",
):
    """`ignored` is the share of rows to ignore; `masked` sets logits to -inf that are no row's target."""

    def make(rng):
        x = values(rng, (rows, classes))
        target = rng.integers(0, classes, rows)
        if masked:
            hidden = rng.random(x.shape) < 0.3
            hidden[np.arange(rows), target] = False
            x[hidden] = -np.inf
        target[rng.random(rows) < ignored] = ignore_index
        return {
            "x": x,
            "target": target,
            "weight": rng.uniform(0.2, 2, classes) if weight else None,
            "dy": normal(rng, rows if reduction == "none" else ()),
            "ignore_index": ignore_index,
            "label_smoothing": label_smoothing,
            "reduction": reduction,
        }

    return Case(name, make, smooth and not masked)


def _run(k, *, x, target, weight, dy, **options):
    loss, lse = k.cross_entropy(x, target, weight, **options)
    return {"y": loss, "lse": lse, "dx": k.cross_entropy_backward(dy, x, target, weight, lse, **options)}


def _terms(*, x, target, weight, dy, ignore_index, reduction, **_):
    """lse is rounded like the row's largest logit, log p = x - lse inherits that, and p = e^(x - lse) too."""
    rows = len(x)
    kept = target != ignore_index
    weight = np.ones(x.shape[1]) if weight is None else weight
    height = 1 + np.where(np.isfinite(x), np.abs(x), 0).max(axis=1) + np.log(x.shape[1])
    per_row = height * weight.max()
    total = weight[target[kept]].sum() if reduction == "mean" else 1.0
    scale = np.abs(dy) / (total or 1.0)
    loss = {
        "none": Terms(1, per_row),
        "sum": Terms(rows, per_row.mean() if rows else 0.0),
        "mean": Terms(rows, per_row.mean() / (total or 1.0) if rows else 0.0),
    }
    return {
        "y": loss[reduction],
        "lse": Terms(1, height),
        "dx": Terms(1, (np.broadcast_to(scale, rows) * per_row)[:, None]),
    }


def _cost(*, x, target, **_):
    return {
        "cross_entropy": Cost(x.nbytes, 20 * x.size),
        "cross_entropy_backward": Cost(2 * x.nbytes, 20 * x.size),
    }


cross_entropy = Suite(
    cases=(
        _case("plain", 7, 10),
        _case("sum", 7, 10, reduction="sum"),
        _case("none", 7, 10, reduction="none"),
        _case("one_row", 1, 10),
        _case("one_class", 5, 1),
        _case("two_classes", 33, 2),
        _case("17_classes", 5, 17),
        _case("1000_classes", 3, 1000),
        _case("1501_classes", 2, 1501, weight=True, label_smoothing=0.1),
        _case("many_rows", 1009, 3),
        _case("weight", 19, 10, weight=True),
        _case("weight_sum", 19, 10, weight=True, reduction="sum"),
        _case("weight_none", 19, 10, weight=True, reduction="none"),
        _case("ignored", 31, 10, ignored=0.4),
        _case("ignored_none", 31, 10, ignored=0.4, reduction="none"),
        _case("ignored_class", 31, 5, ignored=0.1, ignore_index=3),
        _case("all_ignored", 6, 10, ignored=1.0, smooth=False),
        _case("all_ignored_sum", 6, 10, ignored=1.0, reduction="sum"),
        _case("all_ignored_none", 6, 10, ignored=1.0, reduction="none"),
        _case("smoothing", 13, 10, label_smoothing=0.1),
        _case("smoothing_1", 13, 10, label_smoothing=1.0),
        _case("smoothing_none", 13, 10, label_smoothing=0.3, reduction="none"),
        _case("everything", 37, 17, weight=True, ignored=0.3, label_smoothing=0.2),
        _case("everything_sum", 37, 17, weight=True, ignored=0.3, label_smoothing=0.2, reduction="sum"),
        _case("everything_none", 37, 17, weight=True, ignored=0.3, label_smoothing=0.2, reduction="none"),
        _case("empty", 0, 10, smooth=False),
        _case("empty_sum", 0, 10, reduction="sum"),
        _case("empty_none", 0, 10, reduction="none"),
        _case("huge", 23, 10, values=_huge, smooth=False),
        _case("huge_smoothing", 23, 10, values=_huge, label_smoothing=0.1, smooth=False),
        _case("equal", 5, 16, values=_equal),
        _case("not_finite", 41, 7, values=_not_finite, ignored=0.4, reduction="none", smooth=False),
        _case("not_finite_sum", 41, 7, values=_not_finite, reduction="sum", smooth=False),
        _case("masked", 11, 18, masked=True),
    ),
    run=_run,
    terms=_terms,
    gradients=("x",),
    bench=(
        _case("128 × 10", 128, 10),
        _case("256 × 1000", 256, 1000),
        _case("64 × 32000", 64, 32000),
    ),
    cost=_cost,
)
