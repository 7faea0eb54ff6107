import sys

import numpy as np
import pytest

from nnk.train import NonFiniteError, Trial, draws, grid, optuna_search, search


def test_grid():
    configs = list(grid({"a": [1, 2], "b": "xy"}))
    assert configs == [{"a": 1, "b": "x"}, {"a": 1, "b": "y"}, {"a": 2, "b": "x"}, {"a": 2, "b": "y"}]
    with pytest.raises(ValueError, match="b has no values"):
        grid({"a": [1], "b": []})
    with pytest.raises(TypeError, match=r"a is 0\.1, expected a sequence"):
        grid({"a": 0.1})


def test_draws_repeat():
    space = {"lr": lambda rng: 10 ** rng.uniform(-4, -1), "width": [16, 32, 64]}
    first, second = list(draws(space, 20, seed=3)), list(draws(space, 20, seed=3))
    assert first == second
    assert first != list(draws(space, 20, seed=4))
    assert {c["width"] for c in first} == {16, 32, 64}
    assert all(1e-4 <= c["lr"] <= 0.1 for c in first)
    with pytest.raises(ValueError, match="width has no values"):
        draws({"width": []}, 2, seed=0)
    with pytest.raises(ValueError, match="count is 0"):
        draws(space, 0, seed=0)


def test_best_first_and_nan_last():
    configs = [{"x": v} for v in (3.0, np.nan, 1.0, 2.0)]
    assert [t.config["x"] for t in search(lambda x: x, configs)][:3] == [1, 2, 3]
    trials = search(lambda x: x, configs, mode="max")
    assert [t.score for t in trials[:3]] == [3, 2, 1]
    assert np.isnan(trials[-1].score)
    with pytest.raises(ValueError, match="mode='best' is not supported"):
        search(lambda x: x, configs, mode="best")


def diverges_above(limit):
    def score(x):
        if x > limit:
            raise NonFiniteError
        return -x

    return score


def test_a_training_that_diverges_does_not_end_the_search():
    trials = search(diverges_above(2), grid({"x": [1, 2, 3]}))
    assert [t.config["x"] for t in trials] == [2, 1, 3]
    assert np.isnan(trials[-1].score)


def test_without_optuna(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ModuleNotFoundError, match="pip install optuna"):
        optuna_search(lambda x: x, lambda trial: {}, 3)


def test_with_optuna():
    pytest.importorskip("optuna")
    trials = optuna_search(lambda x: (x - 2) ** 2, lambda t: {"x": t.suggest_float("x", -10, 10)}, 30, seed=0)
    assert len(trials) == 30
    assert abs(trials[0].config["x"] - 2) < 1
    best = optuna_search(lambda x: -abs(x - 2), lambda t: {"x": t.suggest_int("x", 0, 3)}, 20, mode="max", seed=0)
    assert best[0] == Trial({"x": 2}, 0.0)
    assert best[-1].score < best[0].score
    diverged = optuna_search(diverges_above(1), lambda t: {"x": t.suggest_float("x", 0, 2)}, 10, seed=0)
    assert len(diverged) == 10
    assert np.isnan(diverged[-1].score)
    assert diverged[0].config["x"] <= 1
    with pytest.raises(ValueError, match="mode='best' is not supported"):
        optuna_search(abs, dict, 1, mode="best")
