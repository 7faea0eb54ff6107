"""Layer normalisation: rows and images, short and long, large means, missing vectors."""

from __future__ import annotations

import numpy as np

from ._suite import Case, Cost, Suite, Terms, normal, rms


def _normal(rng, shape):
    """Rows of different means and spreads."""
    row = (*shape[:1], *(1,) * (len(shape) - 1))
    return normal(rng, shape) * rng.uniform(0.5, 2, row) + normal(rng, row)


def _large_mean(rng, shape):
    """Mean 1e3 and standard deviation 1e-2: in float32, 164 steps of the number grid."""
    return 1e3 + 1e-2 * normal(rng, shape)


def _one_nan(rng, shape):
    """One NaN makes all of its row NaN, and nothing else."""
    x = _normal(rng, shape)
    x[-1, ...].flat[-1] = np.nan
    return x


def _constant(rng, shape):
    """No variance at all, in all rows but the first."""
    x = np.full(shape, 7.0)
    x[0] = normal(rng, x[0].shape)
    return x


def _case(name, x, axes=1, *, values=_normal, weight=True, bias=True, eps=1e-5, smooth=True):
    shape = x[len(x) - axes :]

    def make(rng):
        return {
            "x": values(rng, x),
            "weight": normal(rng, shape) if weight else None,
            "bias": normal(rng, shape) if bias else None,
            "dy": normal(rng, x),
            "normalized_shape": shape,
            "eps": eps,
        }

    return Case(name, make, smooth)


def _run(k, *, x, weight, bias, dy, normalized_shape, eps):
    y, mean, var = k.layer_norm(x, weight, bias, normalized_shape=normalized_shape, eps=eps)
    dx, dweight, dbias = k.layer_norm_backward(
        dy, x, weight, mean, var, normalized_shape=normalized_shape, eps=eps
    )
    return {"y": y, "mean": mean, "var": var, "dx": dx, "dweight": dweight, "dbias": dbias}


def _terms(*, x, weight, bias, dy, normalized_shape, eps):
    """As for batch norm: the mean is rounded, and sums of m values leave it off by some of their spread, so that
    every x̂ drifts by ε (|μ| s + √m / 2).
    """
    if not x.size:
        return {}
    leading = x.ndim - len(normalized_shape)
    before, axes = tuple(range(leading)), tuple(range(leading, x.ndim))
    gamma = np.ones(normalized_shape) if weight is None else np.abs(weight)
    beta = np.zeros(normalized_shape) if bias is None else np.abs(bias)
    mean = x.mean(axis=axes, keepdims=True)
    s = 1 / np.sqrt(x.var(axis=axes, keepdims=True) + eps)
    drift = np.abs(mean) * s + np.sqrt(np.prod(normalized_shape)) / 2
    normalised = (x - mean) * s
    level, slope = (np.abs((gamma * dy * v).mean(axis=axes, keepdims=True)) for v in (1, normalised))
    sums = (gamma + rms(gamma)) * rms(dy) * (1 + np.abs(normalised)) + drift * (slope + level * np.abs(normalised))
    rows = mean.size
    return {
        "y": Terms(1, gamma * (1 + drift) + beta),
        "mean": Terms(1, ((1 + drift) / s).reshape(x.shape[:leading])),
        "dx": Terms(1, s * sums),
        "dweight": Terms(rows, rms(dy) * (1 + drift.max(axis=before))),
        "dbias": Terms(rows, rms(dy)),
    }


def _cost(*, x, **_):
    """A row stays in the cache between its passes: forward reads x once, backward x and dy once; both write once."""
    return {
        "layer_norm": Cost(2 * x.nbytes, 6 * x.size),
        "layer_norm_backward": Cost(3 * x.nbytes, 9 * x.size),
    }


layer_norm = Suite(
    cases=(
        _case("2d", (7, 12)),
        _case("1d", (9,)),
        _case("one_value", (4, 1)),
        _case("3d", (3, 5, 33)),
        _case("3d_2", (3, 5, 8), 2),
        _case("images", (3, 5, 4, 6), 3),
        _case("images_64", (2, 64, 9, 7), 3),
        _case("planes", (2, 3, 5, 6), 2),
        _case("lines", (2, 3, 5, 6), 1),
        _case("everything", (2, 3, 5, 6), 4),
        _case("5d", (2, 3, 2, 3, 4), 3),
        _case("empty_batch", (0, 6)),
        _case("empty_rows", (5, 0)),
        _case("many_rows", (300, 20)),
        _case("two_blocks", (130, 65)),
        _case("long_rows", (3, 9001)),
        _case("no_affine", (5, 40), weight=False, bias=False),
        _case("weight_only", (5, 40), bias=False),
        _case("bias_only", (2, 3, 4, 5), 3, weight=False),
        _case("eps_1e-3", (5, 40), eps=1e-3),
        _case("large_mean", (17, 300), values=_large_mean),
        _case("large_mean_images", (2, 18, 16, 16), 3, values=_large_mean),
        _case("nan", (3, 40), values=_one_nan, smooth=False),
        _case("constant", (3, 40), values=_constant, smooth=False),
    ),
    run=_run,
    terms=_terms,
    gradients=("x", "weight", "bias"),
    bench=(
        _case("rows of 1024", (8192, 1024)),
        _case("rows of 96", (32 * 56 * 56, 96)),
        _case("images, 64 of 56²", (32, 64, 56, 56), 3),
    ),
    cost=_cost,
)
