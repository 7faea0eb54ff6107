"""ELU, also with SELU's constants, and softplus."""

from __future__ import annotations

from ._pointwise import case, pointwise

_SELU = {"alpha": 1.6732632423543772, "scale": 1.0507009873554805}

elu = pointwise(
    "elu",
    saves="x",
    flops=(20, 20),
    more=(
        case("selu", (2, 3, 5, 7), **_SELU),
        case("special_selu", (61, 9), hard=("x",), **_SELU),
        case("alpha_negative", (17, 33), alpha=-0.5),
        case("alpha_0", (7,), alpha=0.0),
    ),
)

softplus = pointwise(
    "softplus",
    saves="x",
    flops=(40, 20),
    kinks=(0, 20, -20),
    more=(
        case("steep", (2, 3, 5, 7), kinks=(0.5,), beta=2.0, threshold=1.0),
        case("special_steep", (61, 9), kinks=(0.5,), hard=("x",), beta=2.0, threshold=1.0),
        case("beta_negative", (17, 33), beta=-0.5, threshold=20.0),
    ),
)
