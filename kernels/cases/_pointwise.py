"""Cases of functions of single elements: any rank, the kinks, the far ends."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ._suite import Case, Cost, Inputs, Suite, Terms, normal

SHAPES = {
    "4d": (2, 3, 5, 7),
    "0d": (),
    "7": (7,),
    "17_channels": (3, 17, 9, 9),
    "empty": (0, 4),
}
MORE_SHAPES = {
    "1": (1,),
    "1000": (1000,),
    "2d": (17, 33),
    "3d": (2, 3, 5),
    "5d": (2, 3, 2, 3, 2),
    "large": (3, 11, 31, 37),
}


def away_from(kinks: tuple[float, ...], rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Values around the kinks, none closer to one than 0.1: a finite difference does not step over it."""
    reach = max(map(abs, kinks), default=0) + 3
    x = rng.uniform(-reach, reach, shape)
    for kink in kinks:
        distance = x - kink
        x = np.where(np.abs(distance) < 0.1, kink + np.copysign(0.1 + np.abs(distance), distance), x)
    return np.asarray(x)


def special(kinks: tuple[float, ...], rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Zeros of both signs, subnormals, the kinks, the ends of exp's range in float32, infinities, NaN."""
    small = [0, 1e-45, 1e-40, 1.2e-38, 1e-20, 1e-8, 1e-3, 0.3, 0.625]
    large = [5, 9, 17, 88, 89, 104, 1e4, 3e38, np.inf]
    sizes = np.array(small + large)
    return rng.choice([*sizes, *-sizes, *kinks, np.nan], shape)


def case(
    name: str,
    shape: tuple[int, ...],
    kinks: tuple[float, ...] = (0,),
    hard: tuple[str, ...] = (),
    **options: float | str,
) -> Case:
    """A case of this shape; `hard` names the arrays, "x" and "dy", that hold special values."""

    def make(rng: np.random.Generator) -> Inputs:
        x = special(kinks, rng, shape) if "x" in hard else away_from(kinks, rng, shape)
        dy = special(kinks, rng, shape) if "dy" in hard else normal(rng, shape)
        return {"x": x, "dy": dy, **options}

    return Case(name, make, smooth=not hard)


def exact(**_: np.ndarray) -> dict[str, Terms]:
    """The terms where a product at most is taken: no absolute error."""
    return {"y": Terms(0, 0.0), "dx": Terms(0, 0.0)}


def saturating(*, dy: np.ndarray, **_: np.ndarray) -> dict[str, Terms]:
    """y is exact to some units in the last place near 0 as well; 1 - y, in the backward, forgets them near 1."""
    return {"y": Terms(0, 0.0), "dx": Terms(8, np.abs(dy))}


def pointwise(
    name: str,
    *,
    saves: str,
    flops: tuple[int, int],
    terms: Callable[..., dict[str, Terms]] = exact,
    kinks: tuple[float, ...] = (0,),
    shapes: dict[str, tuple[int, ...]] = SHAPES,
    more: tuple[Case, ...] = (),
    **options: float | str,
) -> Suite:
    """The suite of y = name(x, **options) and of dx = name_backward(dy, x or y, **options).

    `saves` says which of "x" and "y" backward takes, `flops` the operations an element, forward and backward. `more`
    are further cases.
    """

    def run(k, *, x, dy, **options):
        y = getattr(k, name)(x, **options)
        return {"y": y, "dx": getattr(k, f"{name}_backward")(dy, {"x": x, "y": y}[saves], **options)}

    def cost(*, x: np.ndarray, **_: object) -> dict[str, Cost]:
        return {
            name: Cost(2 * x.nbytes, flops[0] * x.size),
            f"{name}_backward": Cost(3 * x.nbytes, flops[1] * x.size),
        }

    return Suite(
        cases=(
            *(case(shape_name, shape, kinks, **options) for shape_name, shape in shapes.items()),
            case("special", (3, 4, 11, 13), kinks, ("x",), **options),
            *more,
        ),
        run=run,
        terms=terms,
        gradients=("x",),
        bench=(
            case("64 of 56²", (32, 64, 56, 56), kinks, **options),
            case("256 of 14²", (32, 256, 14, 14), kinks, **options),
        ),
        cost=cost,
    )
