"""Dropout: every p, sizes around the blocks of the generator, seeds and calls of more than 32 bits."""

from __future__ import annotations

import numpy as np

from ._suite import Case, Cost, Suite, Terms, normal


def _not_finite(rng, shape):
    return rng.choice([1.0, np.nan, np.inf, -np.inf], shape)


def _case(name, shape, *, values=normal, p=0.3, seed=5, call=2):
    def make(rng):
        return {"x": values(rng, shape), "dy": normal(rng, shape), "p": p, "seed": seed, "call": call}

    return Case(name, make, smooth=values is normal)


def _run(k, *, x, dy, **draw):
    return {"y": k.dropout(x, **draw), "dx": k.dropout(dy, **draw)}


dropout = Suite(
    cases=(
        _case("4d", (2, 3, 5, 7)),
        _case("0d", (), p=0.5),
        _case("1", (1,), p=0.5),
        _case("15", (15,)),
        _case("63", (63,)),
        _case("64", (64,)),
        _case("65", (65,)),
        _case("1000", (1000,)),
        _case("2d", (17, 33)),
        _case("3d", (2, 5, 13)),
        _case("5d", (2, 3, 2, 3, 5)),
        _case("empty", (0, 3)),
        _case("17_channels", (3, 17, 9, 9)),
        _case("large", (3, 11, 31, 37)),
        _case("p_0", (2, 3, 5, 7), p=0.0),
        _case("p_tiny", (17, 33), p=1e-12),
        _case("p_half", (2, 3, 5, 7), p=0.5),
        _case("p_1", (2, 3, 5, 7), p=1.0),
        _case("not_finite", (2, 3, 5, 7), values=_not_finite),
        _case("not_finite_p_1", (2, 3, 5, 7), values=_not_finite, p=1.0),
        _case("long_seed", (130,), seed=0xFEDCBA9876543210, call=3),
        _case("long_call", (130,), seed=7, call=0x123456789ABCDEF0),
    ),
    run=_run,
    terms=lambda **_: {"y": Terms(0, 0.0), "dx": Terms(0, 0.0)},
    gradients=("x",),
    bench=(_case("512 × 4096", (512, 4096), p=0.5), _case("64 of 56²", (32, 64, 56, 56), p=0.1)),
    cost=lambda *, x, **_: {"dropout": Cost(2 * x.nbytes, 15 * x.size)},  # 60 integer operations give 4 words
)
