"""GELU, SiLU, swish, mish."""

from __future__ import annotations

import numpy as np

from ._pointwise import SHAPES, away_from, case, pointwise, special
from ._suite import Case, Cost, Suite, Terms, normal, rms


def _step_forgets(*, x, dy, **_):
    """1 + erf, which makes GELU's step, keeps no digits beyond those of 1."""
    far = np.minimum(np.abs(x), 100)
    return {"y": Terms(1, far), "dx": Terms(8, np.abs(dy) * (1 + far))}


def _sum_of_two(*, dy, **_):
    """The derivative's two terms cancel where it changes its sign."""
    return {"y": Terms(0, 0.0), "dx": Terms(8, np.abs(dy))}


gelu = pointwise(
    "gelu",
    saves="x",
    flops=(40, 60),
    terms=_step_forgets,
    kinks=(),
    more=(
        case("tanh", (2, 3, 5, 7), (), approximate="tanh"),
        case("special_tanh", (61, 9), (), ("x",), approximate="tanh"),
    ),
)

silu = pointwise(
    "silu",
    saves="x",
    flops=(22, 26),
    terms=_sum_of_two,
    kinks=(),
    more=(case("beta_1.702", (17, 33), (), beta=1.702), case("special_beta_2", (61, 9), (), ("x",), beta=2.0)),
)

mish = pointwise("mish", saves="x", flops=(26, 36), terms=_sum_of_two, kinks=())


def _swish_case(name, shape, values=away_from):
    def make(rng):
        return {"x": values((), rng, shape), "beta": normal(rng, (1,)), "dy": normal(rng, shape)}

    return Case(name, make, smooth=values is away_from)


def _run_swish(k, *, x, beta, dy):
    dx, dbeta = k.swish_backward(dy, x, beta)
    return {"y": k.swish(x, beta), "dx": dx, "dbeta": dbeta}


def _swish_terms(*, x, beta, dy):
    return {
        "y": Terms(0, 0.0),
        "dx": Terms(8, np.abs(dy) * (1 + np.abs(beta))),
        "dbeta": Terms(x.size, rms(dy * np.clip(x, -100, 100) ** 2)),
    }


swish = Suite(
    cases=(
        *(_swish_case(name, shape) for name, shape in SHAPES.items()),
        _swish_case("large", (3, 11, 31, 37)),
        _swish_case("special", (3, 4, 11, 13), special),
    ),
    run=_run_swish,
    terms=_swish_terms,
    gradients=("x", "beta"),
    bench=(_swish_case("64 of 56²", (32, 64, 56, 56)),),
    cost=lambda *, x, **_: {
        "swish": Cost(2 * x.nbytes, 22 * x.size),
        "swish_backward": Cost(3 * x.nbytes, 30 * x.size),
    },
)
