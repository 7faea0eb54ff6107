"""Norms and clipping of many arrays at once, over arrays of odd sizes."""

from __future__ import annotations

import numpy as np

from ._optimizer import SHAPES, resnet_shapes
from ._suite import Case, Cost, Suite, normal

LARGE = ((100_003,), (7,), (30, 17, 3, 5))


def _case(name, shapes=SHAPES, values=normal, **options):
    return Case(name, lambda rng: {"xs": [values(rng, shape) for shape in shapes], **options})


def _not_finite(rng, shape):
    """NaN in some, infinities in others."""
    x = normal(rng, shape)
    if x.ndim == 1 and x.size > 16:
        x[:3] = np.nan if x.size == 17 else (np.inf, -np.inf, 1)
    return x


def _norm_cost(*, xs, **_):
    return {"total_norm": Cost(sum(x.nbytes for x in xs), 2 * sum(x.size for x in xs))}


def _clip_cost(*, xs, **_):
    return {"clipped": Cost(2 * sum(x.nbytes for x in xs), 3 * sum(x.size for x in xs))}


total_norm = Suite(
    cases=(
        _case("plain", norm_type=2.0),
        *(_case(f"of_type_{p}", norm_type=p) for p in (1.0, 3.0, 0.5, -1.0, np.inf, -np.inf)),
        _case("large", LARGE, norm_type=2.0),
        _case("large_smallest", LARGE, norm_type=-np.inf),
        _case("empty", ((0,),), norm_type=2.0),
        _case("not_finite", values=_not_finite, norm_type=2.0),
        _case("not_finite_largest", values=_not_finite, norm_type=np.inf),
    ),
    run=lambda k, *, xs, norm_type: {"y": k.total_norm(xs, norm_type=norm_type)},
    bench=(_case("11 M", resnet_shapes(), norm_type=2.0),),
    cost=_norm_cost,
)
clipped = Suite(
    cases=(
        _case("plain", scale=0.3),
        _case("value", clip_value=0.5),
        _case("both", clip_value=0.5, scale=-2.0),
        _case("large", LARGE, clip_value=1.0),
        _case("not_finite", values=_not_finite, clip_value=0.5),
        _case("not_finite_scale", values=_not_finite, scale=0.5),
    ),
    run=lambda k, *, xs, **options: {f"y[{i}]": y for i, y in enumerate(k.clipped(xs, **options))},
    bench=(_case("11 M", resnet_shapes(), scale=0.5), _case("11 M, values", resnet_shapes(), clip_value=0.5)),
    cost=_clip_cost,
)
