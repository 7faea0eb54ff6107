"""Stop when it no longer gets better."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any

from nnk.nn.arguments import integer, number, only

from .callbacks import Callback

if TYPE_CHECKING:
    from .trainer import Trainer


class EarlyStopping(Callback):
    """End the training once ``monitor`` has not improved for ``patience`` epochs.

    Better is lower by more than ``min_delta`` with mode "min", higher with "max". With ``restore_best`` the model ends
    with the weights of its best epoch. ``best`` and ``best_epoch`` tell which that was.

    Args:
        monitor: a column of the history, such as "val_loss" or "val_accuracy".
        patience: stop after so many epochs in a row without an improvement; one whose value is NaN is such an epoch.
        min_delta: what an improvement must exceed.
        mode: "min" or "max".
        restore_best: keep a copy of the best weights, and put it back at the end.

    Raises:
        TypeError: a patience that is no int, a min_delta that is no number.
        ValueError: a patience below 1, a min_delta below 0, another mode; while training, a history that has no column
            ``monitor``.

    Source: Prechelt (1998), "Early stopping, but when?".
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        *,
        patience: int = 10,
        min_delta: float = 0.0,
        mode: str = "min",
        restore_best: bool = True,
    ):
        self.monitor = monitor
        self.patience = integer(patience, "patience", least=1)
        if not number(min_delta, "min_delta") >= 0:
            raise ValueError(f"min_delta is {min_delta}, expected at least 0")
        self.min_delta = min_delta
        only(mode, "mode", "min", "max")
        self.mode = mode
        self.restore_best = restore_best
        self.best = math.inf if mode == "min" else -math.inf
        self.best_epoch = 0
        self.weights: dict[str, Any] = {}

    def __repr__(self) -> str:
        options = ("patience", "min_delta", "mode", "restore_best")
        return f"EarlyStopping({self.monitor!r}, {', '.join(f'{name}={getattr(self, name)!r}' for name in options)})"

    def epoch_end(self, trainer: Trainer) -> None:
        """Compare the epoch with the best one."""
        row = trainer.history[-1]
        if self.monitor not in row:
            raise ValueError(f"monitor is {self.monitor!r}, expected one of {', '.join(map(repr, row))}")
        value = row[self.monitor]
        gain = self.best - value if self.mode == "min" else value - self.best
        if gain > self.min_delta:
            self.best, self.best_epoch = value, trainer.epoch
            if self.restore_best:
                self.weights = copy.deepcopy(trainer.model.state_dict())
        elif trainer.epoch - self.best_epoch >= self.patience:
            trainer.stop()

    def fit_end(self, trainer: Trainer) -> None:
        """Put the best weights back, if the training is over and not cut; the checkpoint holds the last ones."""
        if self.weights and (trainer.stopped or trainer.epoch == trainer.epochs):
            trainer.model.load_state_dict(self.weights)

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` takes."""
        return {"best": self.best, "best_epoch": self.best_epoch, "weights": self.weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self.best, self.best_epoch, self.weights = state["best"], state["best_epoch"], dict(state["weights"])
