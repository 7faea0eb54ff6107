"""Sums of two arrays of one shape, each in a layout of its own."""

from __future__ import annotations

import numpy as np

from ._suite import Case, Cost, Suite, Terms, normal


def _case(name, shape, *, values=None):
    def draw(rng):
        return normal(rng, shape) if values is None else rng.choice(values, shape)

    def make(rng):
        return {"a": draw(rng), "b": draw(rng), "dy": normal(rng, shape)}

    return Case(name, make, smooth=values is None)


add = Suite(
    cases=(
        _case("4d", (2, 3, 5, 7)),
        _case("0d", ()),
        _case("1", (1,)),
        _case("1000", (1000,)),
        _case("2d", (17, 33)),
        _case("3d", (2, 3, 5)),
        _case("empty", (0, 3, 4, 4)),
        _case("17_channels", (3, 17, 9, 9)),
        _case("large", (3, 11, 31, 37)),
        _case("special", (3, 4, 11, 13), values=[0.0, -0.0, 1e-40, 1e38, np.inf, -np.inf, np.nan]),
    ),
    run=lambda k, *, a, b, dy: {"y": k.add(a, b), "da": dy, "db": dy},
    terms=lambda **_: {"y": Terms(0, 0.0)},
    gradients=("a", "b"),
    bench=(_case("64 of 56²", (32, 64, 56, 56)), _case("256 of 14²", (32, 256, 14, 14))),
    cost=lambda *, a, **_: {"add": Cost(3 * a.nbytes, a.size)},
)
