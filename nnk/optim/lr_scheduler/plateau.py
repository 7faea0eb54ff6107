"""A schedule that waits for the loss to stop falling."""

from __future__ import annotations

import math
from typing import Any

from nnk.nn.arguments import number
from nnk.optim.lr_scheduler.base import LRScheduler, check_optimizer, each
from nnk.optim.optimizer import Optimizer

__all__ = ["ReduceLROnPlateau"]


class ReduceLROnPlateau(LRScheduler):
    """lr = max(lr * factor, min_lr) when a metric has not improved for more than `patience` steps.

    ``step(metric)`` comes after every evaluation. Better is below best * (1 - threshold) in the `mode` "min" and above
    best * (1 + threshold) in "max"; with `threshold_mode` "abs" below best - threshold and above best + threshold.
    After a reduction `cooldown` steps pass before steps without improvement count again. A change of at most `eps` is
    not made. `min_lr` may be a list, a number for each group.

    Raises ValueError on a factor of 1 or more and on other modes.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | list[float] = 0,
        eps: float = 1e-8,
    ):
        check_optimizer(optimizer)
        if not number(factor, "factor") < 1:
            raise ValueError(f"factor is {factor}, expected below 1")
        if mode not in ("min", "max"):
            raise ValueError(f"mode is {mode!r}, expected 'min' or 'max'")
        if threshold_mode not in ("rel", "abs"):
            raise ValueError(f"threshold_mode is {threshold_mode!r}, expected 'rel' or 'abs'")
        self.optimizer = optimizer
        self.mode = mode
        self.factor = factor
        self.patience = patience
        self.threshold = number(threshold, "threshold")
        self.threshold_mode = threshold_mode
        self.cooldown = cooldown
        self.default_min_lr = None if isinstance(min_lr, (list, tuple)) else min_lr
        self.min_lrs = each(min_lr, "min_lr", len(optimizer.param_groups))
        self.eps = number(eps, "eps")
        self.last_epoch = 0
        self.mode_worse = self.best = math.inf if mode == "min" else -math.inf
        self.cooldown_counter = 0
        self.num_bad_epochs = 0
        self._last_lr = self._rates()

    def step(self, metrics: Any) -> None:
        """Hear the latest value of the metric, a number, and reduce the rates if it is time."""
        value = float(metrics)
        self.last_epoch += 1
        if self._is_better(value):
            self.best = value
            self.num_bad_epochs = 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        rates = self._rates()
        if self.num_bad_epochs > self.patience:
            if self.default_min_lr is not None:  # groups may have been added
                self.min_lrs = [self.default_min_lr] * len(rates)
            lower = [max(lr * self.factor, least) for lr, least in zip(rates, self.min_lrs, strict=True)]
            rates = [new if old - new > self.eps else old for old, new in zip(rates, lower)]
            self.cooldown_counter = self.cooldown
            self.num_bad_epochs = 0
        self._set(rates)

    def _is_better(self, value: float) -> bool:
        change = -self.threshold if self.mode == "min" else self.threshold
        bar = self.best + change if self.threshold_mode == "abs" else self.best * (1 + change)
        return value < bar if self.mode == "min" else value > bar
