"""Trying configurations: every one of a grid, or drawn ones."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnk.nn.arguments import integer


@dataclass(frozen=True)
class Trial:
    """A configuration and its score."""

    config: dict[str, Any]
    score: float


def grid(space: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    """Yield every combination of the values in ``space``, {"lr": [0.1, 0.01], "width": [16, 32]}; the last name first.

    Raises ValueError for a name without values.
    """
    for name, values in space.items():
        if not len(values):
            raise ValueError(f"{name} has no values, expected at least one")
    for values in itertools.product(*space.values()):
        yield dict(zip(space, values))


def draws(
    space: Mapping[str, Sequence[Any] | Callable[[np.random.Generator], Any]], count: int, seed: int
) -> Iterator[dict[str, Any]]:
    """Yield ``count`` configurations, each value drawn from a sequence, or by a function of a NumPy generator.

    Rates are best drawn on a logarithmic scale: ``lambda rng: 10 ** rng.uniform(-4, -1)``.
    Raises ValueError for a count below 1.
    Source: Bergstra and Bengio (2012), "Random search for hyper-parameter optimization".
    """
    integer(count, "count", least=1)
    rng = np.random.default_rng(seed)
    for _ in range(count):
        yield {
            name: values(rng) if callable(values) else values[rng.integers(len(values))]
            for name, values in space.items()
        }


def search(
    score: Callable[..., float], configs: Iterable[Mapping[str, Any]], *, mode: str = "min"
) -> list[Trial]:
    """Return ``score(**config)`` for all configurations, the best first; those whose score is NaN come last.

    Args:
        score: trains with a configuration and returns, say, the validation loss.
        configs: from `grid`, `draws` or by hand.
        mode: "min" or "max", what is best.

    Raises ValueError for another mode.
    """
    if mode not in ("min", "max"):
        raise ValueError(f"mode is {mode!r}, expected 'min' or 'max'")
    trials = [Trial(dict(config), float(score(**config))) for config in configs]
    return _best_first(trials, mode)


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

    Raises ModuleNotFoundError without Optuna.
    Source: Akiba et al. (2019), "Optuna: a next-generation hyperparameter optimization framework".
    """
    try:
        import optuna
    except ModuleNotFoundError as missing:
        raise ModuleNotFoundError("optuna_search needs Optuna: pip install optuna") from missing
    study = optuna.create_study(
        direction="minimize" if mode == "min" else "maximize", sampler=optuna.samplers.TPESampler(seed=seed)
    )
    trials: list[Trial] = []

    def objective(trial: Any) -> float:
        trials.extend(search(score, [space(trial)], mode=mode))
        return trials[-1].score

    study.optimize(objective, n_trials=integer(count, "count", least=1))
    return _best_first(trials, mode)
