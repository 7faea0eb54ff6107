"""Focal losses: exponents from 0 up, elements that are sure of the truth or of its opposite, balances."""

from __future__ import annotations

import numpy as np

from ._losses import bench, case, chained, cost, reduced, shapes
from ._suite import Case, Cost, Suite, Terms, normal


def _draw(rng, shape):
    return {"x": np.asarray(rng.normal(0, 2, shape)), "target": np.asarray(rng.choice([0.0, 1.0], shape))}


def _sure(rng, shape):
    x = rng.choice([0, 1e-3, 9, 17, 60, 89, 104, 1e4, np.nan], shape) * rng.choice([-1, 1], shape)
    return {"x": x, "target": rng.choice([0.0, 1.0], shape)}


def _run_sigmoid(k, *, x, target, dy, **options):
    loss = k.sigmoid_focal_loss(x, target, **options)
    return {"y": loss, "dx": k.sigmoid_focal_loss_backward(dy, x, target, **options)}


def _sigmoid_terms(*, x, target, dy, reduction, gamma, alpha):
    """The exponent gamma log q is rounded, so its power has gamma |log q| times that error."""
    z = np.nan_to_num(np.where(target == 1, x, -x))
    q = np.exp(-np.logaddexp(0, z))
    error = q**gamma * (1 + gamma * np.logaddexp(0, z))
    return {
        "y": reduced(error * np.logaddexp(0, -z), reduction),
        "dx": chained(dy, error * (q + gamma * np.exp(-np.logaddexp(0, -z)) * np.logaddexp(0, -z)), x.shape, reduction),
    }


sigmoid_focal_loss = Suite(
    cases=(
        *shapes(_draw, gamma=2.0, alpha=None),
        case("alpha", _draw, (5, 7), reduction="none", gamma=2.0, alpha=0.25),
        case("alpha_0", _draw, (5, 7), gamma=2.0, alpha=0.0),
        case("gamma_0", _draw, (5, 7), reduction="none", gamma=0.0, alpha=None),
        case("gamma_half", _draw, (5, 7), reduction="none", gamma=0.5, alpha=0.75),
        case("gamma_5", _draw, (5, 7), gamma=5.0, alpha=0.5),
        case("sure", _sure, (3, 4, 11, 13), reduction="none", smooth=False, gamma=2.0, alpha=None),
        case("sure_gamma_0", _sure, (77,), reduction="none", smooth=False, gamma=0.0, alpha=0.25),
        case("sure_gamma_half", _sure, (77,), reduction="none", smooth=False, gamma=0.5, alpha=None),
    ),
    run=_run_sigmoid,
    terms=_sigmoid_terms,
    gradients=("x",),
    bench=bench(_draw, gamma=2.0, alpha=0.25),
    cost=cost("sigmoid_focal_loss", 70, 90, operands=2),
)


def _huge(rng, shape):
    return rng.choice([-1e4, 1e4, 0.0, 1.0, 9999.0], shape)


def _not_finite(rng, shape):
    x = normal(rng, shape)
    x[::4, 3], x[1::4, 2], x[2::4] = np.nan, np.inf, -np.inf
    return x


def _case(name, rows, classes, *, values=None, alpha=False, gamma=2.0, reduction="mean", smooth=True):
    def make(rng):
        return {
            "x": 2 * normal(rng, (rows, classes)) if values is None else values(rng, (rows, classes)),
            "target": rng.integers(0, classes, rows),
            "alpha": rng.uniform(0.2, 2, classes) if alpha else None,
            "dy": normal(rng, rows if reduction == "none" else ()),
            "gamma": gamma,
            "reduction": reduction,
        }

    return Case(name, make, smooth)


def _run_softmax(k, *, x, target, alpha, dy, **options):
    loss = k.softmax_focal_loss(x, target, alpha, **options)
    return {"y": loss, "dx": k.softmax_focal_loss_backward(dy, x, target, alpha, **options)}


def _softmax_terms(*, x, target, alpha, dy, reduction, gamma):
    """As for the binary one; log p is rounded like the distance of the truth from the top."""
    rows, classes = x.shape
    height = 1 + np.ptp(np.where(np.isfinite(x), x, 0), axis=1) + np.log(classes)
    size = height * (1 + gamma) * (1 if alpha is None else alpha.max())
    scale = np.abs(np.broadcast_to(dy, rows)) / (max(1, rows) if reduction == "mean" else 1)
    mean = size.mean() if rows else 0.0
    loss = {"none": Terms(1, size), "sum": Terms(rows, mean), "mean": Terms(1, mean)}
    return {"y": loss[reduction], "dx": Terms(2, (scale * np.minimum(size, 100))[:, None])}


softmax_focal_loss = Suite(
    cases=(
        _case("plain", 7, 10),
        _case("sum", 7, 10, reduction="sum"),
        _case("none", 7, 10, reduction="none"),
        _case("one_row", 1, 17),
        _case("one_class", 5, 1, smooth=False),
        _case("1000_classes", 3, 1000),
        _case("1501_classes", 2, 1501, alpha=True),
        _case("many_rows", 2009, 3, alpha=True),
        _case("alpha_none", 19, 16, alpha=True, reduction="none"),
        _case("gamma_0", 19, 10, gamma=0.0),
        _case("gamma_half", 19, 35, gamma=0.5, alpha=True, reduction="none"),
        _case("gamma_5", 19, 10, gamma=5.0),
        _case("empty", 0, 10, smooth=False),
        _case("empty_none", 0, 10, reduction="none"),
        _case("huge", 23, 10, values=_huge, reduction="none", smooth=False),
        _case("huge_gamma_0", 23, 10, values=_huge, gamma=0.0, reduction="none", smooth=False),
        _case("huge_gamma_half", 23, 10, values=_huge, gamma=0.5, smooth=False),
        _case("not_finite", 41, 7, values=_not_finite, reduction="none", smooth=False),
    ),
    run=_run_softmax,
    terms=_softmax_terms,
    gradients=("x",),
    bench=(_case("128 × 10", 128, 10), _case("50176 × 21", 50176, 21)),
    cost=lambda *, x, **_: {
        "softmax_focal_loss": Cost(x.nbytes, 25 * x.size),
        "softmax_focal_loss_backward": Cost(2 * x.nbytes, 25 * x.size),
    },
)
