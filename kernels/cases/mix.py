"""Partners before and after and oneself; shares of nothing and of everything."""

from __future__ import annotations

import numpy as np

from ._suite import Case, Cost, Suite, Terms, normal


def _case(name, shape):
    def make(rng):
        n = shape[0]
        shares = rng.choice([0.0, 0.3, 0.75, 1.0], n)
        return {"x": normal(rng, shape), "partners": rng.integers(0, max(n, 1), n), "shares": shares}

    return Case(name, make)


mix = Suite(
    cases=(
        _case("4d", (5, 3, 5, 7)),
        _case("one_pixel", (1, 1, 1, 1)),
        _case("17_channels", (4, 17, 3, 5)),
        _case("empty", (0, 3, 4, 4)),
        _case("large", (5, 3, 61, 67)),
    ),
    run=lambda k, **inputs: {"y": k.mix(**inputs)},
    terms=lambda *, x, **_: {"y": Terms(2, np.abs(x).max(initial=0))},
    bench=(_case("128 of 3 × 32²", (128, 3, 32, 32)),),
    cost=lambda *, x, **_: {"mix": Cost(3 * x.nbytes, 4 * x.size)},
)
