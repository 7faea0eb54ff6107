"""Margin ranking: pairs on both sides of the margin and on it; scores that are broadcast."""

from __future__ import annotations

import numpy as np

from ._losses import bench, case, chained, cost, reduced, shapes
from ._suite import Suite, normal


def _draw(rng, shape, second=None, target=None):
    return {
        "x1": normal(rng, shape),
        "x2": normal(rng, shape if second is None else second),
        "target": np.asarray(rng.choice([-1.0, 1.0], shape if target is None else target)),
    }


def _on_the_margin(rng, shape):
    return {
        "x1": rng.choice([-1.0, 0.0, 0.5, 1.0, 1e4, np.inf], shape),
        "x2": rng.choice([-1.0, 0.0, 0.5, 1.0, -1e4], shape),
        "target": rng.choice([-1.0, 1.0], shape),
    }


def _run(k, *, x1, x2, target, dy, **options):
    dx1, dx2 = k.margin_ranking_loss_backward(dy, x1, x2, target, **options)
    return {"y": k.margin_ranking_loss(x1, x2, target, **options), "dx1": dx1, "dx2": dx2}


def _terms(*, x1, x2, target, dy, margin, reduction):
    size = np.nan_to_num(np.abs(target * (x1 - x2)), posinf=0) + abs(margin)
    return {
        "y": reduced(size, reduction),
        "dx1": chained(dy, 1 + 0 * size, x1.shape, reduction),
        "dx2": chained(dy, 1 + 0 * size, x2.shape, reduction),
    }


margin_ranking_loss = Suite(
    cases=(
        *shapes(_draw, margin=0.5),
        case("margin_0", _draw, (5, 7), margin=0.0),
        case("margin_negative", _draw, (5, 7), reduction="none", margin=-0.3),
        case("scores_repeated", _draw, (6, 1), (1, 7), (6, 7), margin=0.5),
        case("target_repeated", _draw, (6, 7), (6, 7), (1, 1), reduction="sum", margin=0.5),
        case("on_the_margin", _on_the_margin, (3, 4, 11, 13), reduction="none", smooth=False, margin=0.5),
        case("on_the_margin_0", _on_the_margin, (77,), reduction="none", smooth=False, margin=0.0),
    ),
    run=_run,
    terms=_terms,
    gradients=("x1", "x2"),
    bench=bench(_draw, margin=0.5),
    cost=cost("margin_ranking_loss", 4, 6, operands=3, gradients=2),
)
