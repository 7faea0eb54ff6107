"""Trying configurations: every one of a grid, or drawn ones."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnk.nn.arguments import integer, only

from .trainer import NonFiniteError


@dataclass(frozen=True)
class Trial:
    """A configuration and its score."""

    config: dict[str, Any]
    score: float


def grid(space: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Return every combination of the values in ``space``, {"lr": [0.1, 0.01], "width": [16, 32]}.

    The values of the last name change fastest.
    Raises TypeError for a name whose values are no sequence, ValueError for one without values.
    """
    for name, values in space.items():
        _check_values(name, values)
    return [dict(zip(space, values)) for values in itertools.product(*space.values())]


def draws(
    space: Mapping[str, Sequence[Any] | Callable[[np.random.Generator], Any]], count: int, seed: int
) -> list[dict[str, Any]]:
    """Return ``count`` configurations, each value drawn from a sequence, or by a function of a NumPy generator.

    Rates are best drawn on a logarithmic scale: ``lambda rng: 10 ** rng.uniform(-4, -1)``.
    Raises TypeError for a name with neither, ValueError for an empty sequence and for a count below 1.
    Source: Bergstra and Bengio (2012), "Random search for hyper-parameter optimization".
    """
    integer(count, "count", least=1)
    for name, values in space.items():
        if not callable(values):
            _check_values(name, values)
    rng = np.random.default_rng(seed)
    return [
        {
            name: values(rng) if callable(values) else values[rng.integers(len(values))]
            for name, values in space.items()
        }
        for _ in range(count)
    ]


def _check_values(name: str, values: Any) -> None:
    if not hasattr(values, "__len__") or not hasattr(values, "__getitem__"):
        raise TypeError(f"{name} is {values!r}, expected a sequence of values")
    if not len(values):
        raise ValueError(f"{name} has no values, expected at least one")


def search(
    score: Callable[..., float], configs: Iterable[Mapping[str, Any]], *, mode: str = "min"
) -> list[Trial]:
    """Return ``score(**config)`` for all configurations, the best first; those whose score is NaN come last.

    Args:
        score: trains with a configuration and returns, say, the validation loss. Where it raises NonFiniteError, as
            `Trainer.fit` does when the training diverges, the score is NaN.
        configs: from `grid`, `draws` or by hand.
        mode: "min" or "max", what is best.

    Raises ValueError for another mode.
    """
    only(mode, "mode", "min", "max")
    return _best_first([_trial(score, config) for config in configs], mode)


def _trial(score: Callable[..., float], config: Mapping[str, Any]) -> Trial:
    try:
        return Trial(dict(config), float(score(**config)))
    except NonFiniteError:
        return Trial(dict(config), math.nan)


def _best_first(trials: list[Trial], mode: str) -> list[Trial]:
    sign = 1 if mode == "min" else -1
    return sorted(trials, key=lambda trial: math.inf if math.isnan(trial.score) else sign * trial.score)


def optuna_search(
    score: Callable[..., float],
    space: Callable[[Any], Mapping[str, Any]],
    count: int,
    *,
    mode: str = "min",
    seed: int | None = None,
) -> list[Trial]:
    """As `search`, over ``count`` configurations that Optuna suggests, each in the light of those before.

    Args:
        score: as for `search`.
        space: from an Optuna trial to a configuration: ``lambda t: {"lr": t.suggest_float("lr", 1e-4, 1, log=True)}``.
        count: how many.
        mode: "min" or "max", what is best.
        seed: of Optuna's sampler.

    Raises ModuleNotFoundError without Optuna; ValueError for another mode and for a count below 1.
    Source: Akiba et al. (2019), "Optuna: a next-generation hyperparameter optimization framework".
    """
    only(mode, "mode", "min", "max")
    integer(count, "count", least=1)
    try:
        import optuna
    except ModuleNotFoundError as missing:
        raise ModuleNotFoundError("optuna_search needs Optuna: pip install optuna") from missing
    study = optuna.create_study(
        direction="minimize" if mode == "min" else "maximize", sampler=optuna.samplers.TPESampler(seed=seed)
    )
    trials: list[Trial] = []

    def objective(trial: Any) -> float:
        trials.append(_trial(score, space(trial)))
        return trials[-1].score

    study.optimize(objective, n_trials=count)
    return _best_first(trials, mode)
