"""Images in and out of place: small turns, a half turn, mirrors, scales, places far outside."""

from __future__ import annotations

import numpy as np

from ._suite import Case, Cost, Suite, Terms, normal


def _case(name, shape, matrix=None, *, fill=0.0):
    def make(rng):
        if matrix is None:
            matrices = np.array([[1.0, 0, 0], [0, 1, 0]]) + rng.uniform(-0.3, 0.3, (shape[0], 2, 3))
        else:
            matrices = np.tile(np.array(matrix, float), (shape[0], 1, 1))
        return {"x": normal(rng, shape), "matrices": matrices, "fill": fill}

    return Case(name, make)


def _cost(*, x, **_):
    return {"affine2d": Cost(2 * x.nbytes, 9 * x.size + 20 * x.size // max(1, x.shape[1]))}


affine2d = Suite(
    cases=(
        _case("near", (3, 3, 8, 8)),
        _case("identity", (2, 3, 5, 7), [[1, 0, 0], [0, 1, 0]], fill=7.0),
        _case("quarter_turn", (1, 2, 6, 6), [[0, 1, 0], [-1, 0, 0]]),
        _case("mirror", (1, 2, 5, 6), [[-1, 0, 0], [0, 1, 0]]),
        _case("shift", (2, 3, 9, 7), [[1, 0, 2.25], [0, 1, -3.5]], fill=-0.5),
        _case("shrunk", (2, 3, 9, 7), [[2, 0, 0], [0, 3, 0]], fill=0.5),
        _case("grown", (2, 3, 9, 7), [[0.25, 0, 0], [0, 0.5, 0]]),
        _case("flat", (2, 3, 4, 5), [[0, 0, 0.5], [0, 0, 0.25]]),
        _case("outside", (2, 3, 4, 5), [[1, 0, 1e12], [0, 1, -1e12]], fill=1.5),
        _case("one_pixel", (2, 1, 1, 1), [[1, 0, 0.25], [0, 1, -0.5]], fill=3.0),
        _case("one_row", (2, 3, 1, 9)),
        _case("17_channels", (2, 17, 5, 6)),
        _case("empty", (0, 3, 4, 4)),
        _case("large", (5, 3, 61, 67)),
    ),
    run=lambda k, **inputs: {"y": k.affine2d(**inputs)},
    terms=lambda *, x, fill, **_: {"y": Terms(8, max(np.abs(x).max(initial=0), abs(fill)))},
    bench=(_case("128 of 3 × 32²", (128, 3, 32, 32)),),
    cost=_cost,
)
