"""Adam and AdamW over parameters of odd sizes, some steps in a row."""

from __future__ import annotations

import numpy as np

from ._optimizer import SHAPES, SHARED, STEPS, resnet_shapes
from ._suite import Case, Cost, Suite, Terms, normal, rms


def _zero(rng, shape):
    """A gradient that never came: 0 / (0 + ε) must stay 0."""
    return np.zeros(shape)


def _case(
    name,
    shapes=SHAPES,
    steps=STEPS,
    *,
    values=normal,
    lr=1e-2,
    beta1=0.9,
    beta2=0.999,
    eps=1e-8,
    first_step=1,
    amsgrad=False,
    **options,
):
    """At the first step the moments are 0; a later `first_step` finds moments from before."""

    def make(rng):
        before = float(first_step > 1)

        def squares():
            return [np.asarray(rng.uniform(0.1, 2, shape) * before) for shape in shapes]

        return {
            "params": [normal(rng, shape) for shape in shapes],
            "grads": [[values(rng, shape) for shape in shapes] for _ in range(steps)],
            "exp_avgs": [np.asarray(normal(rng, shape) * before) for shape in shapes],
            "exp_avg_sqs": squares(),
            "max_exp_avg_sqs": squares() if amsgrad else None,
            "first_step": first_step,
            "lr": lr,
            "beta1": beta1,
            "beta2": beta2,
            "eps": eps,
            **options,
        }

    return Case(name, make)


def _run(name):
    def run(k, *, params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, first_step, **options):
        for step, g in enumerate(grads, first_step):
            getattr(k, name)(params, g, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, step=step, **options)
        lists = {"params": params, "exp_avgs": exp_avgs, "exp_avg_sqs": exp_avg_sqs}
        if max_exp_avg_sqs:
            lists["max_exp_avg_sqs"] = max_exp_avg_sqs
        return {f"{label}[{i}]": x for label, arrays in lists.items() for i, x in enumerate(arrays)}

    return run


def _terms(*, params, grads, exp_avgs, lr, **_):
    """The mean gradient cancels; the other two are sums of terms of one sign or hardly move."""
    terms = {}
    for i, param in enumerate(params):
        g = rms(np.stack([step[i] for step in grads])) + rms(exp_avgs[i])
        terms |= {f"params[{i}]": Terms(2 * STEPS, rms(param) + lr), f"exp_avgs[{i}]": Terms(2 * STEPS, g)}
    return terms


def _suite(name):
    return Suite(
        cases=(
            _case("plain"),
            _case("one", ((1,),)),
            *(_case(name, **options) for name, options in SHARED.items()),
            _case("betas", beta1=0.5, beta2=0.9, eps=1e-3),
            _case("betas_0", beta1=0.0, beta2=0.0),
            _case("zero_gradient", values=_zero),
            _case("late", first_step=100_000),
            _case("amsgrad", amsgrad=True, first_step=3),
            _case("everything", weight_decay=0.1, maximize=True, lr=0.1, eps=1e-6, first_step=7, amsgrad=True),
            _case("large", ((100_003,), (7,), (300, 171)), 2),
        ),
        run=_run(name),
        terms=_terms,
        bench=(_case("11 M", resnet_shapes(), 1, weight_decay=1e-2),),
        cost=lambda *, params, **_: {
            name: Cost(7 * sum(p.nbytes for p in params), 14 * sum(p.size for p in params))
        },
        layouts=("contiguous",),
    )


adam = _suite("adam")
adamw = _suite("adamw")
