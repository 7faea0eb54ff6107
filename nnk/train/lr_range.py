"""Which learning rates a model can be trained with."""

from __future__ import annotations

import contextlib
import copy
import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nnk import random
from nnk.nn.arguments import integer, number

if TYPE_CHECKING:
    from .trainer import Trainer

_SMOOTHING = 0.9  # of the running mean: it looks back over some ten steps
_DIVERGED = 4.0  # times the lowest loss


@dataclass(frozen=True)
class LRRange:
    """Rates and the smoothed losses of the steps made with them."""

    rates: tuple[float, ...]
    losses: tuple[float, ...]

    @property
    def suggestion(self) -> float:
        """The rate at which the loss falls fastest over the logarithm of the rate, on its way to its lowest.

        The slope at a rate is taken over a fifth of all steps around it, as noise makes any two neighbours differ.
        Raises ValueError where the loss diverged within three steps, or did not fall.
        """
        if len(self.rates) < 3:
            raise ValueError(f"{len(self.rates)} steps before the loss diverged, expected 3 at least: begin lower")
        steepest = self._steepest()
        if steepest is None:
            raise ValueError(f"the loss did not fall in {len(self.rates)} steps: begin lower, or make more steps")
        return self.rates[steepest]

    def _steepest(self) -> int | None:
        losses = np.asarray(self.losses)
        reach = max(1, len(losses) // 10)
        if len(losses) <= 2 * reach:
            return None
        falls = (losses[: -2 * reach] - losses[2 * reach :])[: int(losses.argmin())]
        return int(falls.argmax()) + reach if falls.size and falls.max() > 0 else None

    def plot(self) -> Any:
        """Return a matplotlib figure of the loss over the rate, the suggestion marked where there is one.

        Raises ModuleNotFoundError without matplotlib.
        """
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6, 4), layout="constrained")
        axes = figure.subplots()
        axes.semilogx(self.rates, self.losses)
        axes.set(xlabel="learning rate", ylabel="loss, smoothed", title="learning-rate range test")
        axes.grid(alpha=0.3)
        steepest = self._steepest()
        if steepest is not None:
            rate = self.rates[steepest]
            axes.axvline(rate, color="tab:orange", linestyle="--")
            axes.plot(rate, self.losses[steepest], "o", color="tab:orange", label=f"falls fastest at {rate:.2g}")
            axes.legend()
        return figure


def lr_range_test(
    trainer: Trainer, train: Iterable | tuple[Any, Any], *, start: float = 1e-6, end: float = 1.0, steps: int = 100
) -> LRRange:
    """Train for some steps with a rate that grows from ``start`` to ``end`` by the same factor each, and look on.

    Ends early when the loss is four times its lowest. Weights, modes, optimiser and random state are afterwards what
    they were before, and there are no gradients. Every batch makes an update, clipped as the trainer's are, and all
    parameter groups get the same rate; the scheduler and the callbacks rest. The losses are running means,
    m = 0.9 m + 0.1 loss, divided by 1 - 0.9^t, and so lag behind the rate by some steps.

    Args:
        trainer: whose model, loss and optimiser are tried.
        train: what `Trainer.fit` takes; it is gone through as often as need be.
        start: the first rate.
        end: the last one.
        steps: how many.

    Raises ValueError unless 0 < start < end, both finite, and steps is at least 3, and without a batch; TypeError on
    what is no number.
    Source: Smith (2017), "Cyclical learning rates for training neural networks", arXiv:1506.01186, section 3.3.
    """
    integer(steps, "steps", least=3)
    if not 0 < number(start, "start") < number(end, "end") < math.inf:
        raise ValueError(f"start is {start} and end {end}, expected 0 < start < end")
    groups = trainer.optimizer.param_groups
    weights = copy.deepcopy(trainer.model.state_dict())
    modes = [(part, part.training) for module in (trainer.model, trainer.loss) for part in module.modules()]
    state, drawn = copy.deepcopy(trainer.optimizer.state_dict()), random.get_state()
    rates, losses, mean, lowest = [], [], 0.0, math.inf
    try:
        # Rates that are too high are part of the test.
        ignored = np.errstate(over="ignore", invalid="ignore")
        with contextlib.closing(_forever(trainer, train)) as batches, ignored:
            for i, (x, y) in enumerate(itertools.islice(batches, steps)):
                rate = start * (end / start) ** (i / (steps - 1))
                for group in groups:
                    group["lr"] = rate
                loss = trainer.try_step(x, y)
                mean = _SMOOTHING * mean + (1 - _SMOOTHING) * loss
                smooth = mean / (1 - _SMOOTHING ** (i + 1))
                if not math.isfinite(smooth) or smooth > _DIVERGED * lowest:
                    break
                lowest = min(lowest, smooth)
                rates.append(rate)
                losses.append(smooth)
    finally:
        trainer.model.load_state_dict(weights)
        for part, training in modes:
            part.training = training
        trainer.optimizer.zero_grad()
        trainer.optimizer.load_state_dict(state)
        random.set_state(drawn)
    return LRRange(tuple(rates), tuple(losses))


def _forever(trainer: Trainer, train: Any) -> Any:
    for epoch in itertools.count():
        batches = 0
        for pair in trainer.batches_of_epoch(train, epoch):
            batches += 1
            yield pair
        if not batches:
            raise ValueError(f"train has no batch in pass {epoch + 1}: an iterator can be used only once")
