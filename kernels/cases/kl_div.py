"""KL divergence: targets of probability 0, both forms of the target, a mean over the batch."""

from __future__ import annotations

import numpy as np

from ._losses import bench, case, chained, cost, reduced, shapes
from ._suite import Suite


def _draw(rng, shape, target_shape=None):
    target = np.asarray(rng.uniform(0.1, 0.9, shape if target_shape is None else target_shape))
    return {"x": np.asarray(np.log(rng.uniform(0.1, 0.9, shape))), "target": target}


def _logs(rng, shape, target_shape=None):
    drawn = _draw(rng, shape, target_shape)
    return drawn | {"target": np.log(drawn["target"])}


def _zeros(rng, shape):
    """Log-probabilities of -1e4 are finite yet."""
    target = rng.choice([0, 1e-40, 1e-30, 1e-3, 0.5, 1], shape)
    return {"x": rng.choice([0, -1e-3, -1, -104, -1e4], shape), "target": target}


def _infinite(rng, shape):
    target = rng.choice([0.0, 0.5, -1.0, np.nan], shape)
    return {"x": rng.choice([-np.inf, -1.0, np.nan], shape), "target": target}


def _huge_logs(rng, shape):
    target = rng.choice([-1e4, -104, -88, -1, 0, 60], shape)
    return {"x": rng.choice([0, -1e-3, -104, -1e4], shape), "target": target}


def _run(k, *, x, target, dy, **options):
    return {"y": k.kl_div(x, target, **options), "dx": k.kl_div_backward(dy, x, target, **options)}


def _terms(*, x, target, dy, log_target, reduction):
    with np.errstate(divide="ignore", invalid="ignore"):
        t, log_t = (np.exp(target), target) if log_target else (np.abs(target), np.log(np.abs(target)))
        size = np.nan_to_num(t * (np.nan_to_num(np.abs(log_t), posinf=0) + np.abs(x)), posinf=0)
    batch = len(x) if x.ndim else 1
    return {
        "y": reduced(size, reduction, batch),
        "dx": chained(dy, np.broadcast_to(np.nan_to_num(t), size.shape), x.shape, reduction, batch),
    }


kl_div = Suite(
    cases=(
        *shapes(_draw, log_target=False),
        case("batchmean", _draw, (5, 7), reduction="batchmean", log_target=False),
        case("batchmean_0d", _draw, (), reduction="batchmean", log_target=False),
        case("logs", _logs, (2, 3, 5, 7), log_target=True),
        case("logs_none", _logs, (17, 33), reduction="none", log_target=True),
        case("logs_batchmean", _logs, (5, 7), reduction="batchmean", log_target=True),
        case("target_repeated", _draw, (6, 7), (7,), log_target=False),
        case("x_repeated", _logs, (1, 7), (6, 7), reduction="batchmean", log_target=True),
        case("zeros", _zeros, (3, 4, 11, 13), reduction="none", smooth=False, log_target=False),
        case("infinite", _infinite, (61,), reduction="none", smooth=False, log_target=False),
        case("huge_logs", _huge_logs, (3, 4, 11, 13), reduction="none", smooth=False, log_target=True),
    ),
    run=_run,
    terms=_terms,
    gradients=("x",),
    bench=bench(_draw, log_target=False),
    cost=cost("kl_div", 25, 1, operands=2),
)
