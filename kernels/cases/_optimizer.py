"""Suites of optimisers: some steps in a row over parameters of odd sizes, with states from before."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from ._suite import Case, Cost, Suite, Terms, normal, rms

SHAPES = ((1,), (3,), (17,), (500,), (5, 3, 3, 3), (), (0, 3))
STEPS = 4
SHARED = {  # options that every optimiser takes, by the case that tries them
    "weight_decay": {"weight_decay": 0.1},
    "maximize": {"maximize": True, "weight_decay": 0.1},
    "l1": {"l1": 0.2, "maximize": True},
    "clipped": {"grad_scale": 0.3, "clip_value": 0.3, "weight_decay": 0.1, "l1": 0.1, "skip": np.array(0, np.int32)},
    "skipped": {"weight_decay": 0.1, "skip": np.array(1, np.int32)},
}

State = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


def resnet_shapes() -> list[tuple[int, ...]]:
    """The parameters of a network like ResNet-18: 11 million floats in 60 arrays, large and small."""
    shapes = [(64, 3, 3, 3), (64,), (64,), (1000, 512), (1000,)]
    for before, width in ((64, 64), (64, 128), (128, 256), (256, 512)):
        shapes += [(width, before, 3, 3)] + [(width, width, 3, 3)] * 3 + [(width,)] * 8
        if before != width:
            shapes += [(width, before, 1, 1), (width,), (width,)]
    return shapes


def positive(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Running squares from before."""
    return np.asarray(rng.uniform(0.2, 2, shape))


def suite(
    function: str, states: Mapping[str, State], variants: Mapping[str, dict], bench: Mapping[str, dict],
    *, counts_steps: bool = False, **defaults: float,
) -> Suite:
    """The suite of `function(params, grads, *states, **options)`.

    `variants` gives the options of each case, besides those of SHARED; "without" names the states that are None there.
    """

    def case(name, shapes=SHAPES, steps=STEPS, without=(), **options):
        def make(rng):
            before = {s: None if s in without else [new(rng, shape) for shape in shapes] for s, new in states.items()}
            return {
                "params": [normal(rng, shape) for shape in shapes],
                "grads": [[normal(rng, shape) for shape in shapes] for _ in range(steps)],
                **before,
                **defaults,
                **options,
            }

        return Case(name, make)

    def run(k, *, params, grads, **rest):
        lists = {"params": params, **{name: rest.pop(name) for name in states}}
        for step, g in enumerate(grads, rest.pop("first_step", 1)):
            number = {"step": step} if counts_steps else {}
            getattr(k, function)(params, g, *(lists[name] for name in states), **number, **rest)
        return {f"{name}[{i}]": x for name, arrays in lists.items() for i, x in enumerate(arrays or ())}

    def terms(*, params, grads, **_):
        """Each step adds a few rounded terms of the size of the parameter or the gradient."""
        sizes = [rms(param) + rms(np.stack([step[i] for step in grads])) for i, param in enumerate(params)]
        names = ("params", "buffers", "grad_avgs")
        return {f"{name}[{i}]": Terms(4 * STEPS, size) for name in names for i, size in enumerate(sizes)}

    def cost(*, params, **inputs):
        arrays = 3 + 2 * sum(inputs[name] is not None for name in states)
        return {function: Cost(arrays * sum(p.nbytes for p in params), 4 * arrays * sum(p.size for p in params))}

    first, *others = variants.items()
    cases = [case(first[0], **first[1]), *(case(name, **first[1], **SHARED[name]) for name in SHARED)]
    cases += [case(name, **options) for name, options in others]
    cases += [case("large", ((100_003,), (7,), (300, 171)), 2, **first[1])]
    return Suite(
        cases=tuple(cases),
        run=run,
        terms=terms,
        bench=tuple(case(name, resnet_shapes(), 1, **options) for name, options in bench.items()),
        cost=cost,
        layouts=("contiguous",),
    )
