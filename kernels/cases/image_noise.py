"""Sizes around the blocks of the generator, long seeds, samples out of order."""

from __future__ import annotations

import numpy as np

from ._suite import Case, Cost, Suite, Terms, normal


def _case(name, shape, *, seed=5, call=2, stream=1):
    def make(rng):
        samples = rng.permutation(10 * shape[0] + 1)[: shape[0]]
        std = rng.uniform(0, 2, shape[0])
        return {"x": normal(rng, shape), "std": std, "samples": samples, "seed": seed, "call": call, "stream": stream}

    return Case(name, make)


def _far_samples(rng):
    samples = np.array([2**32 - 1, 2**31, 0])
    return {
        "x": normal(rng, (3, 1, 3, 5)), "std": np.ones(3), "samples": samples,
        "seed": 0xFEDCBA9876543210, "call": 2**32 - 1, "stream": 2**31,
    }  # fmt: skip


image_noise = Suite(
    cases=(
        _case("4d", (2, 3, 5, 7)),
        _case("one_pixel", (1, 1, 1, 1)),
        _case("15", (2, 1, 3, 5)),
        _case("64", (2, 1, 8, 8)),
        _case("65", (2, 5, 13, 1)),
        _case("17_channels", (2, 17, 3, 5)),
        _case("empty", (0, 3, 4, 4)),
        _case("large", (5, 3, 61, 67)),
        _case("long_seed", (2, 3, 4, 4), seed=0x0123456789ABCDEF, call=0, stream=0),
        Case("far_samples", _far_samples),
    ),
    run=lambda k, **inputs: {"y": k.image_noise(**inputs)},
    # A normal number is at most 6, its angle has 24 bits.
    terms=lambda *, x, std, **_: {"y": Terms(4, np.abs(x).max(initial=0) + 6 * std.max(initial=0))},
    bench=(_case("128 of 3 × 32²", (128, 3, 32, 32)),),
    cost=lambda *, x, **_: {"image_noise": Cost(2 * x.nbytes, 40 * x.size)},
)
