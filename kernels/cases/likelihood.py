"""Negative log-likelihoods: parameters of every shape that broadcasts, and at their floor."""

from __future__ import annotations

import numpy as np

from ._losses import bench, case, chained, cost, reduced, shapes
from ._suite import Suite, normal


def _draw(parameter):
    def draw(rng, shape, parameter_shape=None, target_shape=None):
        parameter_shape = shape if parameter_shape is None else parameter_shape
        x = normal(rng, shape)
        apart = rng.choice([-1, 1], shape) * rng.uniform(0.1, 2, shape)
        target = np.asarray(x + apart) if target_shape is None else normal(rng, target_shape)
        return {"x": x, "target": target, parameter: np.asarray(rng.uniform(0.3, 3, parameter_shape))}

    return draw


def _floor(parameter):
    def draw(rng, shape):
        target = rng.choice([0.0, 0.5, -3.0], shape)
        x = target + rng.choice([0.0, 2e-3, -1.0, 1e4], shape)
        return {"x": x, "target": target, parameter: rng.choice([0, 1e-40, 1e-7, 1e-6, 2e-6, 1, np.nan], shape)}

    return draw


def _predicted(parameter):
    """The cases of a likelihood with a predicted width."""
    draw = _draw(parameter)
    return (
        *shapes(draw, eps=1e-6),
        case("full", draw, (5, 7), eps=1e-6, full=True),
        case("full_none", draw, (5, 7), reduction="none", eps=1e-6, full=True),
        case("by_row", draw, (6, 7), (6, 1), eps=1e-6),
        case("by_column", draw, (60, 7), (1, 7), reduction="none", eps=1e-6),
        case("by_channel", draw, (3, 5, 20, 30), (3, 5, 1, 1), eps=1e-6),
        case("one", draw, (6, 7), (), reduction="sum", eps=1e-6),
        case("target_repeated", draw, (6, 7), (6, 7), (7,), eps=1e-6),
        case("x_repeated", draw, (7,), (7,), (6, 7), reduction="none", eps=1e-6),
        case("floor", _floor(parameter), (3, 4, 11, 13), reduction="none", smooth=False, eps=1e-6),
        case("floor_1", draw, (5, 7), reduction="none", smooth=False, eps=1.0),
    )


def _run_predicted(name, parameter):
    def run(k, *, x, target, dy, full=False, **inputs):
        other = inputs.pop(parameter)
        loss = getattr(k, name)(x, target, other, full=full, **inputs)
        dx, dother = getattr(k, f"{name}_backward")(dy, x, target, other, **inputs)
        return {"y": loss, "dx": dx, f"d{parameter}": dother}

    return run


def _terms_gaussian(*, x, target, var, dy, reduction, eps, full=False):
    v = np.maximum(np.nan_to_num(var, nan=1.0), eps)
    far = (x - target) ** 2 / v
    size = 1 + np.abs(np.log(v)) + far
    return {
        "y": reduced(size, reduction),
        "dx": chained(dy, 0 * size + np.abs(x - target) / v, x.shape, reduction),
        "dvar": chained(dy, (1 + far) / v, var.shape, reduction),
    }


def _terms_laplace(*, x, target, scale, dy, reduction, eps, full=False):
    b = np.maximum(np.nan_to_num(scale, nan=1.0), eps)
    far = np.abs(x - target) / b
    size = 1 + np.abs(np.log(b)) + far
    return {
        "y": reduced(size, reduction),
        "dx": chained(dy, 0 * size + 1 / b, x.shape, reduction),
        "dscale": chained(dy, (1 + far) / b, scale.shape, reduction),
    }


gaussian_nll_loss = Suite(
    cases=_predicted("var"),
    run=_run_predicted("gaussian_nll_loss", "var"),
    terms=_terms_gaussian,
    gradients=("x", "var"),
    bench=bench(_draw("var"), eps=1e-6),
    cost=cost("gaussian_nll_loss", 30, 10, operands=3, gradients=2),
)

laplace_nll_loss = Suite(
    cases=_predicted("scale"),
    run=_run_predicted("laplace_nll_loss", "scale"),
    terms=_terms_laplace,
    gradients=("x", "scale"),
    bench=bench(_draw("scale"), eps=1e-6),
    cost=cost("laplace_nll_loss", 30, 10, operands=3, gradients=2),
)


def _probabilities(rng, shape, target_shape=None):
    target = rng.uniform(0, 1, shape if target_shape is None else target_shape)
    return {"x": np.asarray(rng.uniform(0.05, 0.95, shape)), "target": np.asarray(target)}


def _ends(rng, shape):
    x = rng.choice([0, 1, 1e-40, 1e-7, 1e-6, 1e-5, 0.5, 1 - 2**-24, 1 - 2**-18], shape)
    return {"x": x, "target": rng.choice([0, 1, 0.25], shape)}


def _run_bernoulli(k, *, x, target, dy, **options):
    loss = k.bernoulli_nll_loss(x, target, **options)
    return {"y": loss, "dx": k.bernoulli_nll_loss_backward(dy, x, target, **options)}


def _terms_bernoulli(*, x, target, dy, reduction, eps):
    parts = target / np.maximum(x, eps) + (1 - target) / np.maximum(1 - x, eps)
    return {"y": reduced(0 * parts, reduction), "dx": chained(dy, parts, x.shape, reduction)}


bernoulli_nll_loss = Suite(
    cases=(
        *shapes(_probabilities, eps=1e-6),
        case("target_repeated", _probabilities, (6, 7), (7,), eps=1e-6),
        case("x_repeated", _probabilities, (1, 7), (6, 7), eps=1e-6),
        case("ends", _ends, (3, 4, 11, 13), reduction="none", smooth=False, eps=1e-6),
        case("floor", _probabilities, (40,), reduction="none", smooth=False, eps=0.3),
    ),
    run=_run_bernoulli,
    terms=_terms_bernoulli,
    gradients=("x",),
    bench=bench(_probabilities, eps=1e-6),
    cost=cost("bernoulli_nll_loss", 50, 8, operands=2),
)
