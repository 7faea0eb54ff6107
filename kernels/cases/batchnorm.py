"""Batch normalisation: few and many values per channel, large means, missing vectors."""

from __future__ import annotations

import numpy as np

from ._suite import Case, Cost, Suite, Terms, normal, rms


def _normal(rng, shape):
    """Channels of different means and spreads."""
    column = (shape[1], *(1,) * (len(shape) - 2))
    return normal(rng, shape) * rng.uniform(0.5, 2, column) + normal(rng, column)


def _large_mean(rng, shape):
    """Mean 1e3 and standard deviation 1e-2: in float32, 164 steps of the number grid.

    E[x²] - E[x]² would be a difference of millions here, and all noise.
    """
    return 1e3 + 1e-2 * normal(rng, shape)


def _some_large_means(rng, shape):
    """Every other channel has a large mean, of either sign."""
    x = normal(rng, shape)
    x[:, ::2] = x[:, ::2] * 1e-2 + 1e3
    x[:, ::4] *= -1
    return x


def _one_nan(rng, shape):
    """One NaN makes all of its channel NaN, and nothing else."""
    x = _normal(rng, shape)
    x[-1, 1, ...].flat[-1] = np.nan
    return x


def _constant(rng, shape):
    """No variance at all, in all channels but the first."""
    x = np.full(shape, 7.0)
    x[:, 0] = normal(rng, x[:, 0].shape)
    return x


def _case(
    name, x, *, values=_normal, weight=True, bias=True, running=True, momentum=0.1, eps=1e-5, smooth=True
):
    def make(rng):
        c = x[1]
        return {
            "x": values(rng, x),
            "weight": normal(rng, c) if weight else None,
            "bias": normal(rng, c) if bias else None,
            "running_mean": normal(rng, c) if running else None,
            "running_var": rng.uniform(0.2, 3, c) if running else None,
            "dy": normal(rng, x),
            "momentum": momentum,
            "eps": eps,
        }

    return Case(name, make, smooth)


SHAPES = (
    _case("4d", (2, 3, 5, 7)),
    _case("2d", (17, 5)),
    _case("2d_33", (64, 33)),
    _case("2d_two_rows", (2, 3)),
    _case("empty_batch", (0, 3, 4, 4)),
    _case("empty_batch_2d", (0, 5)),
    _case("batch_1", (1, 17, 5, 3)),
    _case("one_channel", (3, 1, 4, 4)),
    _case("two_values", (1, 9, 1, 2)),
    _case("17_channels", (4, 17, 7, 7)),
    _case("33_channels", (3, 33, 5, 3)),
    _case("64_channels", (8, 64, 8, 8)),
    _case("many_values", (16, 5, 29, 31)),
    _case("no_affine", (2, 6, 5, 4), weight=False, bias=False),
    _case("weight_only", (2, 6, 5, 4), bias=False),
    _case("bias_only", (2, 6, 5, 4), weight=False),
    _case("eps_1e-3", (2, 6, 5, 4), eps=1e-3),
    _case("large_mean", (4, 17, 16, 16), values=_large_mean),
    _case("large_mean_2d", (128, 9), values=_large_mean),
    _case("some_large_means", (4, 18, 9, 9), values=_some_large_means),
)


def _run_train(k, *, x, weight, bias, running_mean, running_var, dy, momentum, eps):
    y, mean, invstd = k.batch_norm_train(
        x, weight, bias, running_mean, running_var, momentum=momentum, eps=eps
    )
    dx, dweight, dbias = k.batch_norm_train_backward(dy, x, weight, mean, invstd)
    results = {"y": y, "mean": mean, "invstd": invstd, "dx": dx, "dweight": dweight, "dbias": dbias}
    if running_mean is not None:
        results |= {"running_mean": running_mean, "running_var": running_var}
    return results


def _scales(x, weight, bias):
    """|γ| and |β| in the shape that broadcasts with x, the axes of a channel, the values in one."""
    column = (-1, *(1,) * (x.ndim - 2))
    gamma = np.ones(x.shape[1]) if weight is None else np.abs(weight)
    beta = np.zeros(x.shape[1]) if bias is None else np.abs(bias)
    axes = (0, *range(2, x.ndim))
    return gamma.reshape(column), beta.reshape(column), axes, x.size // x.shape[1]


def _terms_train(*, x, weight, bias, running_mean, dy, eps, **_):
    """The mean μ returned is rounded, by up to ε |μ| / 2, and m values summed in a row leave it off by about
    ε √m / 2 of their spread: every x̂ drifts by ε (κ + √m / 2), with κ = |μ| s. The first part is the price of
    a mean in the arrays' own dtype. The variance has no such excuse.
    """
    gamma, beta, axes, m = _scales(x, weight, bias)
    if not m:
        return {}
    mean = x.mean(axis=axes, keepdims=True)[0]
    s = 1 / np.sqrt(x.var(axis=axes, keepdims=True)[0] + eps)
    drift, normalised = np.abs(mean) * s + np.sqrt(m) / 2, (x - mean) * s
    level, slope = (np.abs((dy * v).mean(axis=axes, keepdims=True)[0]) for v in (1, normalised))
    sums = rms(dy) * (1 + np.abs(normalised)) + drift * (slope + level * np.abs(normalised))
    terms = {
        "y": Terms(1, gamma * (1 + drift) + beta),
        "mean": Terms(1, ((1 + drift) / s).ravel()),
        "dx": Terms(1, gamma * s * sums),
        "dweight": Terms(m, rms(dy) * (1 + drift.ravel())),
        "dbias": Terms(m, rms(dy)),
    }
    if running_mean is not None:
        terms["running_mean"] = Terms(1, ((1 + drift) / s).ravel() + np.abs(running_mean))
    return terms


def _cost_train(*, x, **_):
    """Two passes each way, for sums first: forward reads x twice, backward x and dy twice; both write once."""
    return {
        "batch_norm_train": Cost(3 * x.nbytes, 6 * x.size),
        "batch_norm_train_backward": Cost(5 * x.nbytes, 9 * x.size),
    }


BENCH = (
    _case("64 of 56²", (32, 64, 56, 56)),
    _case("256 of 14²", (32, 256, 14, 14)),
    _case("1024 features", (512, 1024)),
)

batch_norm_train = Suite(
    cases=(
        *SHAPES,
        _case("no_running", (2, 6, 5, 4), running=False),
        _case("momentum_0", (2, 6, 5, 4), momentum=0.0),
        _case("momentum_1", (2, 6, 5, 4), momentum=1.0),
        _case("momentum_negative", (2, 6, 5, 4), momentum=-0.5),
        _case("nan", (3, 19, 4, 4), values=_one_nan, smooth=False),
        _case("constant", (3, 5, 4, 4), values=_constant, smooth=False),
    ),
    run=_run_train,
    terms=_terms_train,
    gradients=("x", "weight", "bias"),
    bench=BENCH,
    cost=_cost_train,
)


def _run_eval(k, *, x, weight, bias, running_mean, running_var, dy, momentum, eps):
    y = k.batch_norm_eval(x, weight, bias, running_mean, running_var, eps=eps)
    dx, dweight, dbias = k.batch_norm_eval_backward(dy, x, weight, running_mean, running_var, eps=eps)
    return {"y": y, "dx": dx, "dweight": dweight, "dbias": dbias}


def _terms_eval(*, x, weight, bias, running_mean, running_var, dy, eps, **_):
    """The folded form y = x a + b, a = γ s, b = β - running_mean a, is allowed: it rounds b."""
    gamma, beta, axes, m = _scales(x, weight, bias)
    s = 1 / np.sqrt(running_var + eps).reshape(gamma.shape)
    reach = (np.abs(x) + np.abs(running_mean.reshape(gamma.shape))) * s
    per_channel = reach.mean(axis=axes) if m else 0.0
    return {
        "y": Terms(1, gamma * reach + beta),
        "dweight": Terms(m, rms(dy) * per_channel),
        "dbias": Terms(m, rms(dy)),
    }


def _cost_eval(*, x, **_):
    return {
        "batch_norm_eval": Cost(2 * x.nbytes, 2 * x.size),
        "batch_norm_eval_backward": Cost(3 * x.nbytes, 5 * x.size),
    }


batch_norm_eval = Suite(
    cases=SHAPES,
    run=_run_eval,
    terms=_terms_eval,
    gradients=("x", "weight", "bias"),
    bench=BENCH,
    cost=_cost_eval,
)
