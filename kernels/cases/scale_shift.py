"""Any number of channels, sizes around whole vectors."""

from __future__ import annotations

from ._suite import Case, Cost, Suite, Terms, normal, rms


def _case(name, shape):
    def make(rng):
        return {"x": normal(rng, shape), "scale": normal(rng, shape[:2]), "shift": normal(rng, shape[:2])}

    return Case(name, make)


scale_shift = Suite(
    cases=(
        _case("4d", (2, 3, 5, 7)),
        _case("one_pixel", (1, 1, 1, 1)),
        _case("1_channel", (3, 1, 5, 5)),
        _case("16_pixels", (2, 3, 4, 4)),
        _case("17_channels", (2, 17, 3, 5)),
        _case("empty", (0, 3, 4, 4)),
        _case("large", (5, 3, 61, 67)),
    ),
    run=lambda k, **inputs: {"y": k.scale_shift(**inputs)},
    terms=lambda *, x, scale, shift: {"y": Terms(2, rms(x) * rms(scale) + rms(shift))},
    bench=(_case("128 of 3 × 32²", (128, 3, 32, 32)),),
    cost=lambda *, x, **_: {"scale_shift": Cost(2 * x.nbytes, 2 * x.size)},
)
