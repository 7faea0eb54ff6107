"""Parametric ReLU: shared slopes and slopes for each channel, any rank."""

from __future__ import annotations

import numpy as np

from ._pointwise import SHAPES, away_from, special
from ._suite import Case, Cost, Suite, Terms, normal, rms


def _case(name, shape, slopes, values=away_from):
    def make(rng):
        return {"x": values((0,), rng, shape), "weight": rng.uniform(-0.9, 0.9, slopes), "dy": normal(rng, shape)}

    return Case(name, make, smooth=values is away_from)


def _run(k, *, x, weight, dy):
    dx, dweight = k.prelu_backward(dy, x, weight)
    return {"y": k.prelu(x, weight), "dx": dx, "dweight": dweight}


def _terms(*, x, weight, dy):
    return {
        "y": Terms(0, 0.0),
        "dx": Terms(0, 0.0),
        "dweight": Terms(x.size // weight.size, rms(dy * np.clip(x, -100, 100))),
    }


prelu = Suite(
    cases=(
        _case("4d", (2, 3, 5, 7), (3,)),
        *(_case(f"shared_{name}", shape, (1,)) for name, shape in SHAPES.items()),
        _case("shared_large", (3, 11, 31, 37), (1,)),
        _case("2d", (17, 33), (33,)),
        _case("3d", (2, 3, 5), (3,)),
        _case("5d", (2, 3, 2, 3, 2), (3,)),
        _case("empty", (0, 4), (4,)),
        _case("17_channels", (3, 17, 9, 9), (17,)),
        _case("large", (3, 11, 31, 37), (11,)),
        _case("wide", (3, 1100, 2, 1), (1100,)),
        _case("special", (3, 4, 11, 13), (4,), special),
    ),
    run=_run,
    terms=_terms,
    gradients=("x", "weight"),
    bench=(_case("64 of 56²", (32, 64, 56, 56), (64,)), _case("shared, 256 of 14²", (32, 256, 14, 14), (1,))),
    cost=lambda *, x, **_: {
        "prelu": Cost(2 * x.nbytes, 2 * x.size),
        "prelu_backward": Cost(3 * x.nbytes, 4 * x.size),
    },
)
