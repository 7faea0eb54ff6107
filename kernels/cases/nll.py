"""Negative log-likelihood of labels: weights, ignored rows, log-probabilities that are not finite."""

from __future__ import annotations

import numpy as np

from ._suite import Case, Cost, Suite, Terms, normal


def _case(
    name, rows, classes, *, weight=False, ignored=0.0, ignore_index=-100, reduction="mean", infinite=False, smooth=True
):
    def make(rng):
        x = normal(rng, (rows, classes)) - 2
        if infinite:
            x[::3] = rng.choice([-np.inf, np.nan, -1e4], x[::3].shape)
        target = rng.integers(0, classes, rows)
        target[rng.random(rows) < ignored] = ignore_index
        return {
            "x": x,
            "target": target,
            "weight": rng.uniform(0.2, 2, classes) if weight else None,
            "dy": normal(rng, rows if reduction == "none" else ()),
            "ignore_index": ignore_index,
            "reduction": reduction,
        }

    return Case(name, make, smooth)


def _run(k, *, x, target, weight, dy, **options):
    loss, total = k.nll_loss(x, target, weight, **options)
    return {"y": loss, "total": total, "dx": k.nll_loss_backward(dy, x, target, weight, total, **options)}


def _terms(*, x, weight, reduction, **_):
    size = np.abs(x[np.isfinite(x)]).mean() * (1 if weight is None else weight.mean()) if x.size else 0.0
    count = 0 if reduction == "none" else len(x)
    return {"y": Terms(count, size / max(1, count) if reduction == "mean" else size), "dx": Terms(0, 0.0)}


nll_loss = Suite(
    cases=(
        _case("plain", 7, 10),
        _case("sum", 7, 10, reduction="sum"),
        _case("none", 7, 10, reduction="none"),
        _case("one_row", 1, 10),
        _case("one_class", 5, 1),
        _case("1000_classes", 3, 1000),
        _case("5000_classes", 3, 5000),
        _case("many_rows", 9001, 3),
        _case("many_rows_none", 9001, 3, weight=True, ignored=0.1, reduction="none"),
        _case("weight", 19, 10, weight=True),
        _case("ignored", 31, 10, weight=True, ignored=0.4),
        _case("ignored_class", 31, 5, ignored=0.1, ignore_index=3, reduction="sum"),
        _case("all_ignored", 6, 10, ignored=1.0, smooth=False),
        _case("empty", 0, 10, smooth=False),
        _case("empty_none", 0, 10, reduction="none"),
        _case("infinite", 41, 7, infinite=True, ignored=0.2, reduction="none", smooth=False),
    ),
    run=_run,
    terms=_terms,
    gradients=("x",),
    bench=(_case("128 × 10", 128, 10), _case("50176 × 21", 50176, 21)),
    cost=lambda *, x, target, **_: {
        "nll_loss": Cost(12 * max(1, target.size), max(1, target.size)),
        "nll_loss_backward": Cost(x.nbytes + 8 * target.size, max(1, target.size)),
    },
)
