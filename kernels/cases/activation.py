"""Activations: any rank, the kink, the far ends."""

from __future__ import annotations

import numpy as np

from ._suite import Case, Cost, Suite, Terms, normal


def _away_from_zero(rng, shape):
    return np.asarray(rng.choice([-1.0, 1.0], shape) * rng.uniform(0.1, 3, shape))


def _special(rng, shape):
    """Zeros of both signs, subnormals, the ends of exp's range in float32, infinities, NaN."""
    small = [0, 1e-45, 1e-40, 1.2e-38, 1e-20, 1e-8, 1e-3, 0.3, 0.625]
    large = [5, 9, 17, 88, 89, 104, 1e4, 3e38, np.inf]
    sizes = np.array(small + large)
    return rng.choice([*sizes, *-sizes, np.nan], shape)


def _case(name, shape, *, values=_away_from_zero, slopes=normal, **options):
    def make(rng):
        return {"x": values(rng, shape), "dy": slopes(rng, shape), **options}

    return Case(name, make, smooth=values is _away_from_zero)


def _shapes(**options):
    return (
        _case("4d", (2, 3, 5, 7), **options),
        _case("0d", (), **options),
        _case("1", (1,), **options),
        _case("7", (7,), **options),
        _case("1000", (1000,), **options),
        _case("2d", (17, 33), **options),
        _case("3d", (2, 3, 5), **options),
        _case("5d", (2, 3, 2, 3, 2), **options),
        _case("empty", (0, 4), **options),
        _case("17_channels", (3, 17, 9, 9), **options),
        _case("large", (3, 11, 31, 37), **options),
        _case("special", (3, 4, 11, 13), values=_special, **options),
        _case("special_2d", (61, 9), values=_special, **options),
    )


def _bench(**options):
    return (
        _case("64 of 56²", (32, 64, 56, 56), **options),
        _case("256 of 14²", (32, 256, 14, 14), **options),
    )


def _cost(name, forward, backward):
    """Forward reads one array and writes one, backward reads two; so many operations per element."""
    return lambda *, x, **_: {
        name: Cost(2 * x.nbytes, forward * x.size),
        f"{name}_backward": Cost(3 * x.nbytes, backward * x.size),
    }


def _exact(**_):
    """A product at most: no absolute error."""
    return {"y": Terms(0, 0.0), "dx": Terms(0, 0.0)}


def _saturating(*, dy, **_):
    """y is exact to some units in the last place near 0 as well; 1 - y, in the backward, forgets them near 1."""
    return {"y": Terms(0, 0.0), "dx": Terms(8, np.abs(dy))}


def _run_relu(k, *, x, dy):
    y = k.relu(x)
    return {"y": y, "dx": k.relu_backward(dy, y)}


def _run_leaky_relu(k, *, x, dy, **slope):
    return {"y": k.leaky_relu(x, **slope), "dx": k.leaky_relu_backward(dy, x, **slope)}


def _run_sigmoid(k, *, x, dy):
    y = k.sigmoid(x)
    return {"y": y, "dx": k.sigmoid_backward(dy, y)}


def _run_tanh(k, *, x, dy):
    y = k.tanh(x)
    return {"y": y, "dx": k.tanh_backward(dy, y)}


relu = Suite(
    cases=(*_shapes(), _case("special_dy", (3, 4, 11, 13), values=_special, slopes=_special)),
    run=_run_relu,
    terms=_exact,
    gradients=("x",),
    bench=_bench(),
    cost=_cost("relu", 1, 1),
)

leaky_relu = Suite(
    cases=(
        *_shapes(negative_slope=0.01),
        _case("special_dy", (3, 4, 11, 13), values=_special, slopes=_special, negative_slope=0.01),
        _case("slope_0", (2, 3, 5, 7), negative_slope=0.0),
        _case("slope_negative", (2, 3, 5, 7), negative_slope=-0.5),
        _case("slope_2", (17, 33), negative_slope=2.0),
    ),
    run=_run_leaky_relu,
    terms=_exact,
    gradients=("x",),
    bench=_bench(negative_slope=0.01),
    cost=_cost("leaky_relu", 2, 2),
)

sigmoid = Suite(
    cases=_shapes(),
    run=_run_sigmoid,
    terms=_saturating,
    gradients=("x",),
    bench=_bench(),
    cost=_cost("sigmoid", 20, 3),
)

tanh = Suite(
    cases=_shapes(),
    run=_run_tanh,
    terms=_saturating,
    gradients=("x",),
    bench=_bench(),
    cost=_cost("tanh", 20, 3),
)
