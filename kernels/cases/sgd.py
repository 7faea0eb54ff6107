"""SGD over parameters of odd sizes, some steps in a row."""

from __future__ import annotations

import numpy as np

from ._optimizer import SHAPES, SHARED, STEPS, resnet_shapes
from ._suite import Case, Cost, Suite, Terms, normal, rms


def _case(name, shapes=SHAPES, steps=STEPS, *, lr=0.1, momentum=0.0, **options):
    def make(rng):
        return {
            "params": [normal(rng, shape) for shape in shapes],
            "grads": [[normal(rng, shape) for shape in shapes] for _ in range(steps)],
            "buffers": [normal(rng, shape) for shape in shapes] if momentum else None,
            "lr": lr,
            "momentum": momentum,
            **options,
        }

    return Case(name, make)


def _run(k, *, params, grads, buffers, **options):
    for step, g in enumerate(grads):
        k.sgd(params, g, buffers, first=step == 0, **options)
    results = {f"params[{i}]": param for i, param in enumerate(params)}
    return results | {f"buffers[{i}]": buffer for i, buffer in enumerate(buffers or ())}


def _terms(*, params, grads, buffers, lr, **_):
    """Each step adds a few rounded terms of the size of the parameter or the gradient."""
    sizes = [rms(param) + rms(np.stack([step[i] for step in grads])) for i, param in enumerate(params)]
    terms = {f"params[{i}]": Terms(2 * STEPS, size) for i, size in enumerate(sizes)}
    return terms | {f"buffers[{i}]": Terms(2 * STEPS, size) for i, size in enumerate(sizes)}


def _cost(*, params, buffers, **_):
    size = sum(param.nbytes for param in params)
    count = sum(param.size for param in params)
    return {"sgd": Cost(size * (3 if buffers is None else 5), count * (2 if buffers is None else 4))}


sgd = Suite(
    cases=(
        _case("plain"),
        _case("one", ((1,),)),
        _case("long", ((2500,), (3,)), 1),
        _case("momentum", momentum=0.9),
        _case("dampening", momentum=0.9, dampening=0.3),
        _case("nesterov", momentum=0.9, nesterov=True),
        *(_case(name, **options) for name, options in SHARED.items()),
        _case("everything", momentum=0.8, weight_decay=0.05, nesterov=True, maximize=True, lr=0.03, l1=0.1),
        _case("dampened_decay", momentum=0.8, dampening=0.5, weight_decay=0.05, maximize=True),
        _case("large", ((100_003,), (7,), (300, 171)), 2, momentum=0.9, weight_decay=1e-4),
    ),
    run=_run,
    terms=_terms,
    bench=(
        _case("11 M, momentum", resnet_shapes(), 1, momentum=0.9, weight_decay=1e-4),
        _case("11 M, plain", resnet_shapes(), 1),
    ),
    cost=_cost,
    layouts=("contiguous",),
)
