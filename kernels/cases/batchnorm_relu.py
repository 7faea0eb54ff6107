"""Batch norm, sum and ReLU in one: the cases of batch norm away from ReLU's kink, residuals, what is not finite.

At the kink a rounding decides whether a whole dy passes, so that backends may differ by all of it.
"""

from __future__ import annotations

import numpy as np

from ..reference.activation import relu_backward
from ..reference.batchnorm import batch_norm_train
from ..reference.batchnorm_relu import batch_norm_relu_train
from . import batchnorm
from ._suite import Case, Cost, Suite, Terms, normal


def _two_sided(rng, shape):
    """In every channel as many values near 1 as near -1, and none near their mean."""
    count = shape[0] * int(np.prod(shape[2:]))
    sides = rng.permuted(np.tile(np.arange(count) % 2 * 2.0 - 1, (shape[1], 1)), axis=1)
    values = sides * rng.uniform(0.5, 1.5, sides.shape)
    return np.moveaxis(values.reshape(shape[1], shape[0], *shape[2:]), 0, 1)


def _spread(rng, shape):
    """Channels of different means and spreads."""
    column = (shape[1], *(1,) * (len(shape) - 2))
    return _two_sided(rng, shape) * rng.uniform(0.5, 2, column) + normal(rng, column)


def _large_mean(rng, shape):
    """Mean 1e3 and standard deviation 1e-2."""
    return 1e3 + 1e-2 * _two_sided(rng, shape)


def _one_nan(rng, shape):
    """One NaN makes all of its channel NaN, and nothing else."""
    x = _spread(rng, shape)
    x[-1, 1, ...].flat[-1] = np.nan
    return x


def _constant(rng, shape):
    """No variance: without a bias every value lies on the kink."""
    return np.full(shape, 7.0)


def _special(rng, shape):
    """A few infinities and NaN."""
    return np.where(rng.random(shape) < 0.03, rng.choice([np.inf, -np.inf, np.nan], shape), normal(rng, shape))


def _some_nan(rng, shape):
    return np.where(rng.random(shape) < 0.01, np.nan, normal(rng, shape))


def case(
    name,
    x,
    *,
    values=_spread,
    slopes=normal,
    residuals=None,
    weight=True,
    bias=True,
    running=True,
    momentum=0.1,
    eps=1e-5,
    smooth=True,
    blocked=None,
):
    """`values`, `residuals` and `slopes` draw x, residual and dy; `blocked` holds values for dy where y is 0."""

    def make(rng):
        c = x[1]
        inputs = {
            "x": values(rng, x),
            "weight": rng.uniform(0.5, 2, c) * rng.choice([-1, 1], c) if weight else None,
            "bias": rng.uniform(-0.1, 0.1, c) if bias else None,
            "running_mean": normal(rng, c) if running else None,
            "running_var": rng.uniform(0.2, 3, c) if running else None,
            "residual": None,
            "dy": slopes(rng, x),
            "momentum": momentum,
            "eps": eps,
        }
        vectors = inputs["weight"], inputs["bias"], None, None
        y, _, _ = batch_norm_train(inputs["x"], *vectors, momentum=0.0, eps=eps)
        if residuals is not None:
            residual = residuals(rng, x)
            residual += 0.3 * np.sign(y + residual)
            inputs["residual"], y = residual, y + residual
        if blocked is not None:
            inputs["dy"] = np.where(y <= 0, rng.choice(blocked, x), inputs["dy"])
        return inputs

    return Case(name, make, smooth)


CASES = (
    case("4d", (2, 3, 5, 7), residuals=normal),
    case("4d_alone", (2, 3, 5, 7)),
    case("2d", (17, 5)),
    case("2d_residual", (64, 33), residuals=normal),
    case("2d_two_rows", (2, 3)),
    case("empty_batch", (0, 3, 4, 4)),
    case("empty_batch_residual", (0, 5), residuals=normal),
    case("one_channel", (3, 1, 4, 4)),
    case("one_channel_residual", (3, 1, 5, 5), residuals=normal),
    case("two_values", (1, 9, 1, 2)),
    case("17_channels", (4, 17, 7, 7)),
    case("17_channels_residual", (4, 17, 7, 7), residuals=normal),
    case("33_channels", (3, 33, 5, 3)),
    case("33_channels_residual", (3, 33, 5, 3), residuals=normal),
    case("64_channels", (8, 64, 8, 8)),
    case("64_channels_residual", (8, 64, 8, 8), residuals=normal),
    case("many_values", (16, 5, 29, 31)),
    case("many_values_residual", (16, 5, 29, 31), residuals=normal),
    case("no_affine", (2, 6, 5, 4), weight=False, bias=False),
    case("no_affine_residual", (2, 6, 5, 4), weight=False, bias=False, residuals=normal),
    case("weight_only", (2, 6, 5, 4), bias=False),
    case("bias_only", (2, 6, 5, 4), weight=False),
    case("no_running", (2, 6, 5, 4), running=False),
    case("momentum_1", (2, 6, 5, 4), momentum=1.0),
    case("eps_1e-3", (2, 6, 5, 4), eps=1e-3),
    case("large_mean", (4, 17, 16, 16), values=_large_mean),
    case("large_mean_residual", (4, 17, 16, 16), values=_large_mean, residuals=normal),
    case("nan", (3, 19, 4, 4), values=_one_nan, smooth=False),
    case("constant", (3, 5, 4, 4), values=_constant, bias=False, smooth=False),
    case("constant_bias", (3, 5, 4, 4), values=_constant, smooth=False),
    case("special_residual", (3, 19, 4, 4), residuals=_special, smooth=False),
    case("nan_dy", (3, 19, 4, 4), slopes=_some_nan, smooth=False),
    case("nan_dy_residual", (3, 19, 4, 4), slopes=_some_nan, residuals=normal, smooth=False),
    case("blocked", (3, 19, 4, 4), blocked=(np.nan, np.inf), smooth=False),
    case("blocked_residual", (3, 19, 4, 4), blocked=(np.nan, np.inf), residuals=normal, smooth=False),
)


def _run(k, *, x, weight, bias, running_mean, running_var, residual, dy, momentum, eps):
    results = {}
    if running_mean is not None:
        results["eval"] = k.batch_norm_relu_eval(x, weight, bias, running_mean, running_var, residual, eps=eps)
        results |= {"running_mean": running_mean, "running_var": running_var}
    y, mean, invstd, mask = k.batch_norm_relu_train(
        x, weight, bias, running_mean, running_var, residual, momentum=momentum, eps=eps
    )
    dx, dweight, dbias, dresidual = k.batch_norm_relu_train_backward(
        dy, x, weight, mean, invstd, mask, residual=residual is not None
    )
    results |= {"y": y, "mean": mean, "invstd": invstd}
    results |= {"dx": dx, "dweight": dweight, "dbias": dbias}
    return results if residual is None else results | {"dresidual": dresidual}


def _terms(*, x, weight, bias, running_mean, residual, dy, eps, **others):
    """Those of batch norm, for the dy that ReLU lets through."""
    if not x.size:
        return {}
    y, *_ = batch_norm_relu_train(x, weight, bias, None, None, residual, momentum=0.0, eps=eps)
    inputs = {"x": x, "weight": weight, "bias": bias, "running_mean": running_mean, "eps": eps, **others}
    terms = batchnorm.batch_norm_train.terms(**inputs, dy=relu_backward(dy, y))
    added = 0 if residual is None else np.abs(residual)
    terms["y"] = Terms(1, terms["y"].size + added)
    if residual is not None:
        terms["dresidual"] = Terms(0, 0.0)
    if running_mean is not None:
        terms["eval"] = Terms(1, batchnorm.batch_norm_eval.terms(**inputs, dy=dy)["y"].size + added)
    return terms


def _cost(*, x, residual, **_):
    """What batch norm costs alone, to read the residual and to write its gradient, and a bit an element that forward
    writes and backward reads twice.
    """
    extra, bits = residual is not None, x.size // 8
    return {
        "batch_norm_relu_train": Cost((3 + extra) * x.nbytes + bits, (7 + extra) * x.size),
        "batch_norm_relu_train_backward": Cost((5 + extra) * x.nbytes + 2 * bits, 11 * x.size),
        "batch_norm_relu_eval": Cost((2 + extra) * x.nbytes, (3 + extra) * x.size),
    }


batch_norm_relu = Suite(
    cases=CASES,
    run=_run,
    terms=_terms,
    gradients=("x", "weight", "bias", "residual"),
    bench=(
        case("64 of 56²", (32, 64, 56, 56)),
        case("64 of 56², sum", (32, 64, 56, 56), residuals=normal),
        case("256 of 14²", (32, 256, 14, 14)),
        case("256 of 14², sum", (32, 256, 14, 14), residuals=normal),
    ),
    cost=_cost,
)
