"""SGD over parameters of odd sizes, some steps in a row."""

from __future__ import annotations

import numpy as np

from ._suite import Case, Cost, Suite, Terms, normal, rms

SHAPES = ((1,), (3,), (17,), (1000,), (5, 3, 3, 3), (), (0, 3))
STEPS = 4


def resnet_shapes() -> list[tuple[int, ...]]:
    """The parameters of a network like ResNet-18: 11 million floats in 60 arrays, large and small."""
    shapes = [(64, 3, 3, 3), (64,), (64,), (1000, 512), (1000,)]
    for before, width in ((64, 64), (64, 128), (128, 256), (256, 512)):
        shapes += [(width, before, 3, 3)] + [(width, width, 3, 3)] * 3 + [(width,)] * 8
        if before != width:
            shapes += [(width, before, 1, 1), (width,), (width,)]
    return shapes


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
        _case("momentum", momentum=0.9),
        _case("dampening", momentum=0.9, dampening=0.3),
        _case("nesterov", momentum=0.9, nesterov=True),
        _case("weight_decay", weight_decay=0.05),
        _case("maximize", maximize=True),
        _case("everything", momentum=0.8, weight_decay=0.05, nesterov=True, maximize=True, lr=0.03),
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
