"""Averages of the weights over the course of training."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from nnk import backend, nn
from nnk.nn.arguments import integer, number

from .batches import asarray_like
from .callbacks import Callback

if TYPE_CHECKING:
    from .trainer import Trainer


class _Average(Callback):
    """An average of all floats of the model's `state_dict`; other arrays are those of the last update."""

    def __init__(self) -> None:
        self.weights: dict[str, Any] = {}
        self.updates = 0

    def _update(self, model: nn.Module, share: float) -> None:
        """average += share * (weights - average); the first time the average is the weights."""
        self.updates += 1
        for name, array in model.state_dict().items():
            own = self.weights.get(name)
            if own is None or not backend.is_float(array.dtype):
                self.weights[name] = array.copy()
            else:
                # A checkpoint's average comes back in NumPy arrays, wherever the model is.
                self.weights[name] = own = asarray_like(own, array)
                own += share * (array - own)

    @contextlib.contextmanager
    def applied(self, model: nn.Module) -> Iterator[nn.Module]:
        """Give the model the averaged weights for the time of a ``with`` block.

        Raises ValueError before the first update.
        """
        trained = copy.deepcopy(model.state_dict())
        self.copy_to(model)
        try:
            yield model
        finally:
            model.load_state_dict(trained)

    def copy_to(self, model: nn.Module) -> None:
        """Give the model the averaged weights for good.

        Raises ValueError before the first update.
        """
        if not self.updates:
            raise ValueError(f"{type(self).__name__} holds no average yet: no update, or no epoch, was in its time")
        model.load_state_dict(self.weights)

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` takes."""
        return {"updates": self.updates, "weights": self.weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self.updates = state["updates"]
        self.weights = copy.deepcopy(state["weights"])


class ExponentialMovingAverage(_Average):
    """After every update, average = d * average + (1 - d) * weights, with d = min(decay, (1 + t) / (10 + t)).

    The average begins as the weights after the first update, t = 0; the smaller d of the first ones lets it forget
    where training began. Running statistics of norms are averaged in the same way. Training goes on from the weights,
    not the average: evaluate that with ``with average.applied(model): trainer.evaluate(data)``, and make it the model
    with ``average.copy_to(model)``.

    Args:
        decay: the share of the old average, later on; it then looks back over some 1 / (1 - decay) updates.

    Raises ValueError unless 0 <= decay < 1, TypeError on what is no number.
    Sources: Polyak and Juditsky (1992); Tan and Le (2019), arXiv:1905.11946, for its use in image classifiers;
    TensorFlow's ``ExponentialMovingAverage(decay, num_updates)`` for d.
    """

    def __init__(self, decay: float = 0.999):
        super().__init__()
        if not 0 <= number(decay, "decay") < 1:
            raise ValueError(f"decay is {decay}, expected 0 <= decay < 1")
        self.decay = decay

    def __repr__(self) -> str:
        return f"ExponentialMovingAverage({self.decay})"

    def update_end(self, trainer: Trainer) -> None:
        """Take the weights in."""
        t = self.updates
        self._update(trainer.model, 1 - min(self.decay, (1 + t) / (10 + t)))


class StochasticWeightAveraging(_Average):
    """The mean of the weights after each epoch from number ``start`` on, with equal shares.

    Use a rate that stays high, or goes round in cycles, from then on. The running statistics of norms are means too,
    but not those of the averaged weights: call `nnk.train.recompute_bn` after ``copy_to``, or within ``applied``.

    Args:
        start: the first epoch whose weights count; 1 is the first of all.
        every: take each ``every``-th epoch from there.

    Raises TypeError or ValueError unless both are ints of at least 1.
    Source: Izmailov et al. (2018), "Averaging weights leads to wider optima and better generalization",
    arXiv:1803.05407, algorithm 1.
    """

    def __init__(self, start: int, every: int = 1):
        super().__init__()
        self.start = integer(start, "start", least=1)
        self.every = integer(every, "every", least=1)

    def __repr__(self) -> str:
        return f"StochasticWeightAveraging({self.start}, every={self.every})"

    def epoch_end(self, trainer: Trainer) -> None:
        """Take the weights in, if it is time."""
        if trainer.epoch >= self.start and (trainer.epoch - self.start) % self.every == 0:
            self._update(trainer.model, 1 / (self.updates + 1))
