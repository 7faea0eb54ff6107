"""Bounded rows of weights of odd sizes."""

from __future__ import annotations

from ._optimizer import resnet_shapes
from ._suite import Case, Cost, Suite, normal

SHAPES = ((3, 5), (1, 1), (7, 4, 3, 3), (2, 5001), (0, 3), (3, 0))


def _case(name, limit, shapes=SHAPES):
    return Case(name, lambda rng: {"params": [normal(rng, shape) for shape in shapes], "limit": limit})


def _run(k, *, params, limit):
    k.max_norm(params, limit=limit)
    return {f"params[{i}]": x for i, x in enumerate(params)}


def _cost(*, params, **_):
    return {"max_norm": Cost(2 * sum(x.nbytes for x in params), 3 * sum(x.size for x in params))}


max_norm = Suite(
    cases=(_case("some", 2.2), _case("all", 0.01), _case("none", 1e3)),
    run=_run,
    bench=(_case("11 M", 1.0, [shape for shape in resnet_shapes() if len(shape) > 1]),),
    cost=_cost,
    layouts=("contiguous",),
)
