"""Group normalisation: from one group to one channel each, few and many values, large means, missing vectors."""

from __future__ import annotations

import numpy as np

from ._suite import Case, Cost, Suite, Terms, normal, rms


def _normal(rng, shape):
    """Channels of different means and spreads."""
    column = (shape[1], *(1,) * (len(shape) - 2))
    return normal(rng, shape) * rng.uniform(0.5, 2, column) + normal(rng, column)


def _large_mean(rng, shape):
    """Mean 1e3 and standard deviation 1e-2: in float32, 164 steps of the number grid."""
    return 1e3 + 1e-2 * normal(rng, shape)


def _one_nan(rng, shape):
    """One NaN makes all of its group NaN in its sample, and nothing else."""
    x = _normal(rng, shape)
    x[-1, 1, ...].flat[-1] = np.nan
    return x


def _constant(rng, shape):
    """No variance at all, in all samples but the first."""
    x = np.full(shape, 7.0)
    x[0] = normal(rng, x[0].shape)
    return x


def _case(name, x, num_groups, *, values=_normal, weight=True, bias=True, eps=1e-5, smooth=True):
    def make(rng):
        return {
            "x": values(rng, x),
            "weight": normal(rng, x[1]) if weight else None,
            "bias": normal(rng, x[1]) if bias else None,
            "dy": normal(rng, x),
            "num_groups": num_groups,
            "eps": eps,
        }

    return Case(name, make, smooth)


def _run(k, *, x, weight, bias, dy, num_groups, eps):
    y, mean, var = k.group_norm(x, weight, bias, num_groups=num_groups, eps=eps)
    dx, dweight, dbias = k.group_norm_backward(dy, x, weight, mean, var, num_groups=num_groups, eps=eps)
    return {"y": y, "mean": mean, "var": var, "dx": dx, "dweight": dweight, "dbias": dbias}


def _terms(*, x, weight, bias, dy, num_groups, eps):
    """As for batch norm: the mean is rounded, and sums of m values leave it off by some of their spread, so that
    every x̂ drifts by ε (|μ| s + √m / 2).
    """
    if not x.size:
        return {}
    cut = (x.shape[0], num_groups, x.shape[1] // num_groups, *x.shape[2:])
    values, slopes = x.reshape(cut), dy.reshape(cut)
    axes = tuple(range(2, values.ndim))
    column = (1, num_groups, cut[2], *(1,) * (x.ndim - 2))
    gamma = (np.ones(x.shape[1]) if weight is None else np.abs(weight)).reshape(column)
    beta = (np.zeros(x.shape[1]) if bias is None else np.abs(bias)).reshape(column)
    m = x[0].size // num_groups

    mean = values.mean(axis=axes, keepdims=True)
    s = 1 / np.sqrt(values.var(axis=axes, keepdims=True) + eps)
    drift, normalised = np.abs(mean) * s + np.sqrt(m) / 2, (values - mean) * s
    level, slope = (
        np.abs((gamma * slopes * v).mean(axis=axes, keepdims=True)) for v in (1, normalised)
    )
    sums = (gamma + rms(gamma)) * rms(dy) * (1 + np.abs(normalised)) + drift * (slope + level * np.abs(normalised))
    count = x.size // x.shape[1]
    worst = drift.max(axis=0).reshape(num_groups, 1)
    return {
        "y": Terms(1, (gamma * (1 + drift) + beta + 0 * values).reshape(x.shape)),
        "mean": Terms(1, ((1 + drift) / s).reshape(cut[:2])),
        "dx": Terms(1, (s * sums).reshape(x.shape)),
        "dweight": Terms(count, np.broadcast_to(rms(dy) * (1 + worst), cut[1:3]).ravel()),
        "dbias": Terms(count, rms(dy)),
    }


def _cost(*, x, **_):
    """A sample stays in the cache between its two passes: forward reads x once, backward x and dy once."""
    return {
        "group_norm": Cost(2 * x.nbytes, 6 * x.size),
        "group_norm_backward": Cost(3 * x.nbytes, 9 * x.size),
    }


group_norm = Suite(
    cases=(
        _case("4d", (2, 6, 5, 7), 3),
        _case("2d", (7, 24), 3),
        _case("3d", (3, 6, 11), 2),
        _case("5d", (2, 4, 3, 2, 5), 2),
        _case("empty_batch", (0, 4, 3, 3), 2),
        _case("empty_image", (2, 4, 0, 3), 2),
        _case("one_group", (3, 17, 5, 3), 1),
        _case("one_channel", (3, 1, 4, 4), 1),
        _case("instances", (3, 17, 5, 3), 17),
        _case("instances_3", (2, 3, 13, 7), 3),
        _case("one_position", (3, 8, 1, 1), 2),
        _case("batch_1", (1, 64, 9, 9), 8),
        _case("33_channels", (3, 33, 7, 5), 11),
        _case("64_channels", (4, 64, 8, 8), 32),
        _case("many_values", (3, 6, 61, 59), 2),
        _case("one_large_sample", (1, 16, 61, 59), 4),
        _case("wide", (2, 1030, 3, 3), 103),
        _case("no_affine", (2, 6, 5, 4), 2, weight=False, bias=False),
        _case("weight_only", (2, 6, 5, 4), 6, bias=False),
        _case("bias_only", (2, 6, 5, 4), 1, weight=False),
        _case("eps_1e-3", (2, 6, 5, 4), 2, eps=1e-3),
        _case("large_mean", (2, 18, 16, 16), 6, values=_large_mean),
        _case("large_mean_instances", (3, 9, 19, 17), 9, values=_large_mean),
        _case("nan", (3, 8, 4, 4), 4, values=_one_nan, smooth=False),
        _case("constant", (3, 5, 4, 4), 5, values=_constant, smooth=False),
    ),
    run=_run,
    terms=_terms,
    gradients=("x", "weight", "bias"),
    bench=(
        _case("8 groups, 64 of 56²", (32, 64, 56, 56), 8),
        _case("32 groups, 256 of 14²", (32, 256, 14, 14), 32),
        _case("instances, 64 of 56²", (32, 64, 56, 56), 64),
    ),
    cost=_cost,
)
