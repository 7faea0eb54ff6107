"""Filters of odd length, also longer than the image; widths around whole vectors."""

from __future__ import annotations

import numpy as np

from ._suite import Case, Cost, Suite, Terms, normal


def _case(name, shape, taps):
    def make(rng):
        return {"x": normal(rng, shape), "weights": rng.uniform(-0.5, 1, (shape[0], taps)) / taps}

    return Case(name, make)


blur2d = Suite(
    cases=(
        _case("3_taps", (2, 3, 6, 5), 3),
        _case("1_tap", (2, 3, 4, 5), 1),
        _case("5_taps", (2, 1, 7, 9), 5),
        _case("as_large_as_can_be", (1, 2, 4, 3), 5),
        _case("larger_than_the_image", (2, 3, 3, 2), 11),
        _case("one_pixel", (2, 3, 1, 1), 5),
        _case("one_row", (2, 2, 1, 8), 3),
        _case("16_wide", (2, 1, 3, 16), 3),
        _case("17_channels", (2, 17, 5, 4), 7),
        _case("empty", (0, 3, 4, 4), 3),
        _case("large", (5, 3, 61, 67), 9),
    ),
    run=lambda k, **inputs: {"y": k.blur2d(**inputs)},
    terms=lambda *, x, weights: {
        "y": Terms(2 * weights.shape[1], np.abs(x).max(initial=0) * np.abs(weights).sum(1).max(initial=0) ** 2)
    },
    bench=(_case("128 of 3 × 32², 5 taps", (128, 3, 32, 32), 5),),
    cost=lambda *, x, weights: {"blur2d": Cost(2 * x.nbytes, 4 * weights.shape[1] * x.size)},
)
