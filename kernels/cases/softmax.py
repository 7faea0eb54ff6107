"""Softmax and its logarithm: any axis, few and many classes, rows with infinities and NaN."""

from __future__ import annotations

import numpy as np

from ._suite import Case, Cost, Suite, Terms, normal

_ROWS = np.array([
    [0, 1e-45, -1e-45, 0, 1e-3],
    [1e4, -1e4, 9999, 1e4, 0],
    [1.5e38, -1.5e38, 1, 1.5e38, 0],
    [88, 89, 104, -104, -88],
    [-np.inf, 1, -np.inf, 2, 0],
    [-np.inf, -np.inf, -np.inf, -np.inf, -np.inf],
    [np.inf, 1, 2, 3, 4],
    [np.nan, 1, 2, 3, 4],
    [1, 2, 3, 4, np.nan],
])


def _case(name, shape, dim, **options):
    def make(rng):
        return {"x": 3 * normal(rng, shape), "dy": normal(rng, shape), "dim": dim, **options}

    return Case(name, make)


def _hard(name, repeats):
    """The rows above, short and as parts of longer ones."""
    def make(rng):
        x = np.concatenate([_ROWS, *[np.where(np.isfinite(_ROWS), _ROWS, 0)] * (repeats - 1)], axis=1)
        return {"x": x, "dy": normal(rng, x.shape), "dim": 1}

    return Case(name, make, smooth=False)


_CASES = (
    _case("2d", (7, 10), 1),
    _case("1d", (5,), 0),
    _case("columns", (7, 10), 0),
    _case("4d", (2, 19, 5, 3), 1),
    _case("4d_last", (2, 3, 5, 17), 3),
    _case("3d", (3, 4, 16), 1),
    _case("one_class", (4, 1), 1),
    _case("no_class", (4, 0), 1),
    _case("empty", (0, 4), 1),
    _case("tall", (200, 3), 0),
    _case("long", (2, 1030), 1),
    _case("wide", (3, 3000), 1),
    _case("large", (300, 67), 1),
    _hard("hard", 1),
    _hard("hard_wide", 9),
)
_BENCH = (_case("1000 classes", (2048, 1000), 1), _case("21 channels of 64²", (16, 21, 64, 64), 1))


def _probabilities(x, dim, temperature=1.0):
    with np.errstate(invalid="ignore"):
        e = np.exp((x - x.max(axis=dim, keepdims=True, initial=-np.inf)) / temperature)
        return np.nan_to_num(e / e.sum(axis=dim, keepdims=True))


def _run_softmax(k, *, x, dy, **options):
    y = k.softmax(x, **options)
    return {"y": y, "dx": k.softmax_backward(dy, y, **options)}


def _softmax_terms(*, x, dy, dim, temperature=1.0):
    """A difference of dy and its mean under p, times p."""
    p = _probabilities(x, dim, temperature)
    mean = (p * np.abs(dy)).sum(axis=dim, keepdims=True)
    return {"y": Terms(0, 0.0), "dx": Terms(16, p * (np.abs(dy) + mean) / temperature)}


def _run_log_softmax(k, *, x, dy, dim):
    y = k.log_softmax(x, dim=dim)
    return {"y": y, "dx": k.log_softmax_backward(dy, y, dim=dim)}


def _log_softmax_terms(*, x, dy, dim):
    """The logarithm of a sum near 1 is exact to units in the last place of 1."""
    p = _probabilities(x, dim)
    return {"y": Terms(4, 1.0), "dx": Terms(16, np.abs(dy) + p * np.abs(dy).sum(axis=dim, keepdims=True))}


def _cost(name, forward, backward):
    return lambda *, x, **_: {
        name: Cost(2 * x.nbytes, forward * x.size),
        f"{name}_backward": Cost(3 * x.nbytes, backward * x.size),
    }


softmax = Suite(
    cases=(
        *_CASES,
        _case("cold", (7, 10), 1, temperature=0.5),
        _case("hot", (2, 5, 3, 4), 1, temperature=3.0),
    ),
    run=_run_softmax,
    terms=_softmax_terms,
    gradients=("x",),
    bench=_BENCH,
    cost=_cost("softmax", 22, 5),
)

log_softmax = Suite(
    cases=_CASES,
    run=_run_log_softmax,
    terms=_log_softmax_terms,
    gradients=("x",),
    bench=_BENCH,
    cost=_cost("log_softmax", 22, 22),
)
