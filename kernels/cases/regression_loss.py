"""Losses of a difference: both sides of the knee, the knee itself, 0, infinities; operands that are broadcast."""

from __future__ import annotations

import numpy as np

from ._losses import bench, case, chained, cost, reduced, shapes
from ._suite import Suite, normal


def _draw(rng, shape, target_shape=None):
    """Differences away from 0 and from 1."""
    if target_shape not in (None, shape):
        return {"x": normal(rng, shape), "target": normal(rng, target_shape)}
    target = rng.integers(-8, 9, shape) / 4
    d = rng.choice([-1.0, 1.0], shape) * rng.choice([0.2, 1.2], shape) * rng.uniform(1, 3, shape)
    return {"x": np.asarray(target + d), "target": np.asarray(target)}


def _kinks(rng, shape):
    """At the knees 1, 0.5 and 2 and beside them, at zero, and what is no finite number."""
    sizes = np.array([0, 1e-40, 1e-8, 0.3, 0.5, 1, np.nextafter(1, 0, dtype=np.float32), 1 + 2**-23, 2, 1e4, 1e18])
    return {"x": rng.choice([*sizes, *-sizes, np.inf, -np.inf, np.nan], shape), "target": np.zeros(shape)}


def _cases(**options):
    return (
        *shapes(_draw, **options),
        case("one_target", _draw, (4, 9), (), **options),
        case("target_by_channel", _draw, (2, 5, 4, 3), (5, 1, 1), reduction="none", **options),
        case("target_by_row", _draw, (6, 7), (6, 1), reduction="sum", **options),
        case("x_repeated", _draw, (5, 1, 3), (4, 1, 2, 1), **options),
        case("x_of_lower_rank", _draw, (6,), (3, 6), reduction="none", **options),
        case("long_pattern", _draw, (2, 5000), (5000,), **options),
        case("kinks", _kinks, (3, 4, 11, 13), reduction="none", smooth=False, **options),
    )


def _terms(*, x, target, dy, reduction, **_):
    """Differences are exact to a rounding: only sums of gradients of either sign cancel."""
    d = np.nan_to_num(np.abs(x - target), posinf=0)
    return {
        "y": reduced(0 * d, reduction),
        "dx": chained(dy, 2 * d + 1, x.shape, "none" if reduction == "none" else reduction),
    }


def _suite(name, operations, extra=(), **options):
    def run(k, *, x, target, dy, **settings):
        forward, backward = getattr(k, name), getattr(k, f"{name}_backward")
        return {"y": forward(x, target, **settings), "dx": backward(dy, x, target, **settings)}

    return Suite(
        cases=(*_cases(**options), *extra),
        run=run,
        terms=_terms,
        gradients=("x",),
        bench=bench(_draw, **options),
        cost=cost(name, operations, operations, operands=2),
    )


mse_loss = _suite("mse_loss", 2)
l1_loss = _suite("l1_loss", 2)
smooth_l1_loss = _suite(
    "smooth_l1_loss",
    6,
    (
        case("beta_2", _kinks, (40,), reduction="none", smooth=False, beta=2.0),
        case("beta_0", _kinks, (40,), reduction="none", smooth=False, beta=0.0),
        case("beta_tiny", _draw, (40,), beta=1e-30),
    ),
    beta=1.0,
)
huber_loss = _suite(
    "huber_loss",
    6,
    (
        case("delta_half", _kinks, (40,), reduction="none", smooth=False, delta=0.5),
        case("delta_100", _draw, (40,), delta=100.0),
    ),
    delta=1.0,
)
