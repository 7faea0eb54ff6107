"""Several models that answer together."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nnk import nn
from nnk.nn.arguments import integer

from .callbacks import Callback
from .predicting import probabilities

if TYPE_CHECKING:
    from .trainer import Trainer


class Ensemble:
    """The mean of the probabilities that several classifiers give.

    Args:
        models: modules that return logits (N, C); they are run in eval mode.

    Raises ValueError without models, TypeError for what are none; a Sequential is one model, not several.
    Source: Hansen and Salamon (1990), "Neural network ensembles".
    """

    def __init__(self, models: Sequence[nn.Module]):
        if isinstance(models, nn.Sequential):
            raise TypeError("models is a Sequential, which is one model, expected a sequence of modules")
        self.models = list(models)
        if not self.models:
            raise ValueError("models is empty, expected at least one")
        for i, model in enumerate(self.models):
            if not isinstance(model, nn.Module):
                raise TypeError(f"models[{i}] is a {type(model).__name__}, expected a module")

    def __repr__(self) -> str:
        return f"Ensemble({', '.join(type(model).__name__ for model in self.models)})"

    def predict(self, inputs: Any, batch_size: int = 256) -> np.ndarray:
        """Return the mean probabilities (N, C) for ``inputs``, an array (N, …) or an `ArrayDataset`.

        Raises ValueError for models that disagree about the number of classes, and as `probabilities` does.
        """
        total = probabilities(self.models[0], inputs, batch_size)
        for i, model in enumerate(self.models[1:], 1):
            own = probabilities(model, inputs, batch_size)
            if own.shape != total.shape:
                raise ValueError(f"models[{i}] knows {own.shape[1]} classes, expected {total.shape[1]} as models[0]")
            total += own
        return total / len(self.models)


def bagging(
    fit: Callable[[np.ndarray, np.ndarray], nn.Module], inputs: np.ndarray, targets: np.ndarray, count: int, seed: int
) -> Ensemble:
    """Return an ensemble of models, each trained on as many samples as there are, drawn with replacement.

    Args:
        fit: called with the inputs and targets of one draw, returns a trained model.
        inputs: all samples, (N, ...).
        targets: theirs, (N, ...).
        count: how many models.
        seed: of the draws.

    Raises ValueError for a count below 1, for no samples and for arrays of different length.
    Source: Breiman (1996), "Bagging predictors".
    """
    integer(count, "count", least=1)
    if len(inputs) != len(targets):
        raise ValueError(f"inputs has {len(inputs)} samples, targets {len(targets)}, expected as many")
    if not len(inputs):
        raise ValueError("inputs is empty, expected at least one")
    rng = np.random.default_rng(seed)
    draws = [rng.integers(0, len(inputs), len(inputs)) for _ in range(count)]
    return Ensemble([fit(inputs[draw], targets[draw]) for draw in draws])


class Snapshots(Callback):
    """Keep the model as it is at the end of every cycle of ``period`` epochs: an ensemble for the price of one model.

    Meant for a rate that falls to 0 within each cycle and starts anew, as `CosineAnnealingWarmRestarts` lets it with
    ``T_0=period`` where it steps per epoch, and period times the batches of an epoch where it steps per batch.

    Raises TypeError or ValueError unless the period is an int of at least 1.
    Source: Huang et al. (2017), "Snapshot ensembles: train 1, get M for free", arXiv:1704.00109.
    """

    def __init__(self, period: int):
        self.period = integer(period, "period", least=1)
        self.weights: list[dict[str, Any]] = []

    def __repr__(self) -> str:
        return f"Snapshots({self.period})"

    def epoch_end(self, trainer: Trainer) -> None:
        """Keep the weights, if a cycle is over."""
        if trainer.epoch % self.period == 0:
            self.weights.append(copy.deepcopy(trainer.model.state_dict()))

    def ensemble(self, model: nn.Module, last: int | None = None) -> Ensemble:
        """Return the ensemble of the ``last`` snapshots (all by default), as copies of ``model``.

        Raises ValueError before the first cycle is over, and unless 1 <= last <= the number of snapshots.
        """
        if not self.weights:
            raise ValueError(f"no cycle of {self.period} epochs is over yet: there is no snapshot")
        last = len(self.weights) if last is None else integer(last, "last", least=1)
        if last > len(self.weights):
            raise ValueError(f"last is {last}, expected at most the number of snapshots, {len(self.weights)}")
        models = []
        for weights in self.weights[-last:]:
            models.append(copy.deepcopy(model))
            models[-1].load_state_dict(weights)
        return Ensemble(models)

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` takes."""
        return {"weights": self.weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self.weights = list(state["weights"])
