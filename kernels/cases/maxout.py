"""Maxout: pieces in any number, groups, ties, NaN."""

from __future__ import annotations

import numpy as np

from ._suite import Case, Cost, Suite, Terms, normal


def _spread(rng, shape):
    """Values of which no two are closer than 0.1: a finite difference does not change the winner."""
    return 0.1 * rng.permuted(np.arange(np.prod(shape, dtype=int))).reshape(shape)


def _ties(rng, shape):
    return rng.integers(-1, 2, shape).astype(float)


def _not_finite(rng, shape):
    return rng.choice([0, -0.0, 1, -1, np.inf, -np.inf, np.nan], shape)


def _case(name, shape, pieces, *, values=_spread, groups=1):
    def make(rng):
        dy = normal(rng, (shape[0], shape[1] // pieces, *shape[2:]))
        return {"x": values(rng, shape), "dy": dy, "pieces": pieces, "groups": groups}

    return Case(name, make, smooth=values is _spread)


def _run(k, *, x, dy, **options):
    y, indices = k.maxout(x, **options)
    return {"y": y, "indices": indices, "dx": k.maxout_backward(dy, indices, **options)}


def _bench(name, shape, pieces):
    return Case(name, lambda rng: {
        "x": normal(rng, shape),
        "dy": normal(rng, (shape[0], shape[1] // pieces, *shape[2:])),
        "pieces": pieces,
    })


def _cost(*, x, dy, pieces, **_):
    moved = x.nbytes + dy.nbytes + dy.size
    return {"maxout": Cost(moved, x.size), "maxout_backward": Cost(moved, x.size)}


maxout = Suite(
    cases=(
        _case("2d", (7, 15), 3),
        _case("4d", (2, 12, 3, 5), 2),
        _case("one_piece", (3, 5), 1),
        _case("one_unit", (3, 5), 5),
        _case("17_units", (2, 34, 3, 3), 2),
        _case("wide", (3, 200), 2),
        _case("groups", (2, 24, 3, 2), 4, groups=3),
        _case("many_pieces", (2, 600), 300),
        _case("256_pieces", (2, 512), 256),
        _case("empty", (0, 6), 2),
        _case("large", (5, 66, 17, 19), 3),
        _case("ties", (5, 66, 3, 5), 3, values=_ties),
        _case("not_finite", (5, 100), 4, values=_not_finite),
    ),
    run=_run,
    terms=lambda **_: {"y": Terms(0, 0.0), "dx": Terms(0, 0.0)},
    gradients=("x",),
    bench=(_bench("2 × 64 of 28²", (32, 128, 28, 28), 2), _bench("5 × 240", (2048, 1200), 5)),
    cost=_cost,
)
