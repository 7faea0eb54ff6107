"""Channels around whole vectors, images around a block of pixels."""

from __future__ import annotations

import numpy as np

from ._suite import Case, Cost, Suite, Terms, normal, rms


def _case(name, shape, *, values=normal):
    def make(rng):
        return {"x": values(rng, shape), "scale": normal(rng, shape[:2]), "dy": normal(rng, shape)}

    return Case(name, make, smooth=values is normal)


def _run(k, *, x, scale, dy):
    dx, dscale = k.scale_channels_backward(dy, x, scale)
    return {"y": k.scale_channels(x, scale), "dx": dx, "dscale": dscale}


def _not_finite(rng, shape):
    return rng.choice([1.0, -2.0, np.nan, np.inf], shape)


scale_channels = Suite(
    cases=(
        _case("4d", (2, 3, 5, 7)),
        _case("one_pixel", (1, 1, 1, 1)),
        _case("1_channel", (3, 1, 5, 5)),
        _case("64_pixels", (2, 16, 8, 8)),
        _case("65_pixels", (1, 17, 5, 13)),
        _case("33_channels", (2, 33, 3, 5)),
        _case("empty", (0, 3, 4, 4)),
        _case("no_pixels", (2, 3, 0, 4)),
        _case("large", (2, 5, 41, 37)),
        _case("not_finite", (2, 17, 3, 4), values=_not_finite),
    ),
    run=_run,
    terms=lambda *, x, scale, dy: {"dscale": Terms(x.shape[2] * x.shape[3], rms(x) * rms(dy))},
    gradients=("x", "scale"),
    bench=(_case("64 of 56²", (32, 64, 56, 56)), _case("512 of 7²", (32, 512, 7, 7))),
    cost=lambda *, x, **_: {
        "scale_channels": Cost(2 * x.nbytes, x.size),
        "scale_channels_backward": Cost(3 * x.nbytes, 3 * x.size),
    },
)
