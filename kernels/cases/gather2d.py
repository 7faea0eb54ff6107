"""Rows and columns in any order: crops, flips, borders, more and fewer than the image has."""

from __future__ import annotations

import numpy as np

from ._suite import Case, Cost, Suite, Terms, normal


def _case(name, shape, size, *, values=normal, fill=0.0):
    def make(rng):
        n, _, h, w = shape
        height, width = size
        rows, columns = rng.integers(-1, h, (n, height)), rng.integers(-1, w, (n, width))
        return {"x": values(rng, shape), "rows": rows, "columns": columns, "fill": fill}

    return Case(name, make)


def _crop_and_flip(rng):
    x = normal(rng, (3, 3, 8, 9))
    rows = rng.integers(-2, 3, (3, 1)) + np.arange(8)
    columns = rng.integers(-2, 3, (3, 1)) + np.arange(9)[::-1]
    rows, columns = (np.where((i >= 0) & (i < n), i, -1) for i, n in ((rows, 8), (columns, 9)))
    return {"x": x, "rows": rows, "columns": columns, "fill": 0.0}


def _special(rng, shape):
    return rng.choice([0.0, -0.0, 1e-40, 3e38, np.inf, -np.inf, np.nan], shape)


gather2d = Suite(
    cases=(
        Case("crop_and_flip", _crop_and_flip),
        _case("one_pixel", (1, 1, 1, 1), (3, 2), fill=-1.5),
        _case("smaller", (2, 3, 7, 5), (3, 4)),
        _case("larger", (2, 4, 3, 5), (9, 8), fill=0.25),
        _case("17_channels", (2, 17, 6, 5), (6, 5)),
        _case("33_channels", (1, 33, 4, 3), (5, 3), fill=2.0),
        _case("no_rows", (2, 3, 4, 4), (0, 4)),
        _case("empty", (0, 3, 4, 4), (4, 4)),
        _case("large", (5, 3, 61, 67), (57, 71)),
        _case("special", (3, 3, 5, 6), (6, 7), values=_special),
    ),
    run=lambda k, **inputs: {"y": k.gather2d(**inputs)},
    terms=lambda **_: {"y": Terms(0, 0.0)},
    bench=(_case("128 of 3 × 32²", (128, 3, 32, 32), (32, 32)),),
    cost=lambda *, x, rows, columns, **_: {
        "gather2d": Cost(2 * x.shape[1] * rows.shape[1] * columns.size * x.itemsize, rows.size + columns.size)
    },
)
