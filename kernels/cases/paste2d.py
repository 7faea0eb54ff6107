"""Boxes anywhere, empty and as large as the image; partners before and after, none, oneself."""

from __future__ import annotations

import numpy as np

from ._suite import Case, Cost, Suite, Terms, normal


def _case(name, shape, *, box=None, fill=0.0):
    def make(rng):
        n, _, h, w = shape
        rows, columns = (np.sort(rng.integers(0, size + 1, (n, 2))) for size in (h, w))
        boxes = np.stack([rows[:, 0], columns[:, 0], rows[:, 1], columns[:, 1]], axis=1)
        if box is not None:
            boxes[:] = box
        return {"x": normal(rng, shape), "boxes": boxes, "partners": rng.integers(-1, n, n), "fill": fill}

    return Case(name, make)


paste2d = Suite(
    cases=(
        _case("4d", (5, 3, 6, 7)),
        _case("nothing", (3, 3, 4, 4), box=(2, 2, 2, 2), fill=5.0),
        _case("no_columns", (3, 3, 4, 4), box=(0, 3, 4, 3)),
        _case("everything", (4, 3, 4, 5), box=(0, 0, 4, 5), fill=-2.0),
        _case("one_pixel", (2, 1, 1, 1), box=(0, 0, 1, 1), fill=0.5),
        _case("17_channels", (4, 17, 5, 6), fill=1.0),
        _case("empty", (0, 3, 4, 4)),
        _case("large", (5, 3, 61, 67)),
    ),
    run=lambda k, **inputs: {"y": k.paste2d(**inputs)},
    terms=lambda **_: {"y": Terms(0, 0.0)},
    bench=(_case("128 of 3 × 32²", (128, 3, 32, 32)),),
    cost=lambda *, x, **_: {"paste2d": Cost(2 * x.nbytes, x.shape[0])},
)
