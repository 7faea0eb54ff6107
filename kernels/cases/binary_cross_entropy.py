"""Binary cross-entropy: probabilities of 0 and 1, logits beyond the range of exp, weights of every shape."""

from __future__ import annotations

import numpy as np

from ._losses import bench, case, chained, cost, reduced, shapes
from ._suite import Suite


def _probabilities(rng, shape, weight_shape=None):
    return {
        "x": np.asarray(rng.uniform(0.05, 0.95, shape)),
        "target": np.asarray(rng.uniform(0, 1, shape)),
        "weight": None if weight_shape is None else np.asarray(rng.uniform(0.5, 2, weight_shape)),
    }


def _ends(rng, shape, _=None):
    x = rng.choice([0, 1, 1e-45, 1e-40, 1e-30, 1e-12, 1e-7, 0.3, 0.5, 1 - 2**-24, 1 - 2**-20], shape)
    return {"x": x, "target": rng.choice([0, 1, 0.25], shape), "weight": None}


def _logits(rng, shape, weight_shape=None, pos_weight_shape=None):
    drawn = _probabilities(rng, shape, weight_shape)
    pos_weight = None if pos_weight_shape is None else np.asarray(rng.uniform(0.2, 4, pos_weight_shape))
    return drawn | {"x": np.asarray(rng.normal(0, 2, shape)), "pos_weight": pos_weight}


def _huge(rng, shape, _=None):
    x = rng.choice([0, 1e-40, 1e-3, 17, 60, 88, 89, 104, 1e4, 3e38, np.nan], shape) * rng.choice([-1, 1], shape)
    return {"x": x, "target": rng.choice([0, 1, 0.25], shape), "weight": None, "pos_weight": None}


def _weighted(draw):
    return (
        case("weight", draw, (6, 5, 4, 3), (6, 5, 4, 3)),
        case("one_weight", draw, (2, 5, 4, 3), (), reduction="none"),
        case("weight_by_channel", draw, (3, 5, 40, 30), (5, 1, 1)),
        case("weight_by_row", draw, (6, 7), (6, 1), reduction="sum"),
        case("weight_by_column", draw, (700, 7), (7,)),
    )


def _run(k, *, x, target, weight, dy, reduction):
    loss = k.binary_cross_entropy(x, target, weight, reduction=reduction)
    return {"y": loss, "dx": k.binary_cross_entropy_backward(dy, x, target, weight, reduction=reduction)}


def _run_logits(k, *, x, target, weight, pos_weight, dy, reduction):
    loss = k.binary_cross_entropy_with_logits(x, target, weight, pos_weight, reduction=reduction)
    dx = k.binary_cross_entropy_with_logits_backward(dy, x, target, weight, pos_weight, reduction=reduction)
    return {"y": loss, "dx": dx}


def _terms(*, x, target, dy, reduction, weight, pos_weight=None):
    """Losses are sums of terms of one sign. A gradient is the difference of its two parts."""
    weight = np.broadcast_to(1.0 if weight is None else weight, x.shape)
    pos_weight = np.broadcast_to(1.0 if pos_weight is None else pos_weight, x.shape)
    return {
        "y": reduced(0 * weight, reduction),
        "dx": chained(dy, weight * np.where((target > 0) & (target < 1), 1 + pos_weight, 0), x.shape, reduction),
    }


binary_cross_entropy = Suite(
    cases=(
        *shapes(_probabilities),
        *_weighted(_probabilities),
        case("ends", _ends, (3, 4, 11, 13), reduction="none", smooth=False),
        case("ends_mean", _ends, (301,), smooth=False),
    ),
    run=_run,
    terms=lambda *, x, **inputs: _terms(x=x, **inputs) | {"dx": _probability_terms(x=x, **inputs)},
    gradients=("x",),
    bench=bench(_probabilities),
    cost=cost("binary_cross_entropy", 50, 8, operands=2),
)


def _probability_terms(*, x, target, weight, dy, reduction):
    weight = np.broadcast_to(1.0 if weight is None else weight, x.shape)
    return chained(dy, 0 * weight * target, x.shape, reduction)


binary_cross_entropy_with_logits = Suite(
    cases=(
        *shapes(_logits),
        *_weighted(_logits),
        case("pos_weight", _logits, (6, 5, 4, 3), (), (6, 5, 4, 3)),
        case("one_pos_weight", _logits, (6, 5), (), (1,)),
        case("pos_weight_by_channel", _logits, (3, 5, 40, 30), (3, 1, 1, 1), (5, 1, 1), reduction="none"),
        case("pos_weight_by_column", _logits, (300, 20), (300, 1), (20,)),
        case("huge", _huge, (3, 4, 11, 13), reduction="none", smooth=False),
    ),
    run=_run_logits,
    terms=_terms,
    gradients=("x",),
    bench=bench(_logits),
    cost=cost("binary_cross_entropy_with_logits", 50, 25, operands=2),
)
