"""Schedules along half a cosine, once or again and again."""

from __future__ import annotations

import math

from nnk.nn.arguments import integer, number
from nnk.optim.lr_scheduler.base import LRScheduler
from nnk.optim.optimizer import Optimizer

__all__ = ["CosineAnnealingLR", "CosineAnnealingWarmRestarts"]


class CosineAnnealingLR(LRScheduler):
    """lr = eta_min + (base_lr - eta_min) * (1 + cos(π t / T_max)) / 2.

    Raises TypeError or ValueError unless T_max is a number above 0.
    Source: Loshchilov and Hutter (2017), arXiv:1608.03983, eq. 5, without restarts.
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1):
        self.T_max = number(T_max, "T_max")
        if T_max <= 0:
            raise ValueError(f"T_max is {T_max}, expected more than 0 steps")
        self.eta_min = number(eta_min, "eta_min")
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """Return the rate of each group at step `last_epoch`."""
        if self._is_initial:
            return self._rates()
        if (self.last_epoch - 1 - self.T_max) % (2 * self.T_max) == 0:
            # One step past a minimum the factor below would divide by zero.
            rise = (1 - math.cos(math.pi / self.T_max)) / 2
            return [lr + (base - self.eta_min) * rise for lr, base in zip(self._rates(), self.base_lrs, strict=True)]
        now, before = (1 + math.cos(math.pi * t / self.T_max) for t in (self.last_epoch, self.last_epoch - 1))
        return [now / before * (lr - self.eta_min) + self.eta_min for lr in self._rates()]


class CosineAnnealingWarmRestarts(LRScheduler):
    """lr = eta_min + (base_lr - eta_min) * (1 + cos(π T_cur / T_i)) / 2, begun anew after T_i steps.

    T_cur counts the steps since the last restart; T_i is T_0 at first and T_mult times as long after each restart.
    Raises ValueError or TypeError unless T_0 and T_mult are ints of at least 1.
    Source: Loshchilov and Hutter (2017), arXiv:1608.03983, eq. 5.
    """

    def __init__(
        self, optimizer: Optimizer, T_0: int, T_mult: int = 1, eta_min: float = 0.0, last_epoch: int = -1
    ):
        self.T_0 = self.T_i = integer(T_0, "T_0", 1)
        self.T_mult = integer(T_mult, "T_mult", 1)
        self.eta_min = number(eta_min, "eta_min")
        self.T_cur = last_epoch
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """Return the rate of each group at T_cur."""
        height = (1 + math.cos(math.pi * self.T_cur / self.T_i)) / 2
        return [self.eta_min + (base - self.eta_min) * height for base in self.base_lrs]

    def first_lr(self) -> list[float]:
        """Return the rate of each group at T_cur, where this schedule has waited for its turn."""
        return self.get_lr()

    def step(self, epoch: float | None = None) -> None:
        """Go on by one step, or to `epoch`, which may be a fraction: epoch + batch / batches after every batch.

        Raises ValueError on a negative epoch.
        """
        if epoch is None and self.last_epoch >= 0:
            epoch = self.last_epoch + 1
            self.T_cur += 1
            if self.T_cur >= self.T_i:
                self.T_cur %= self.T_i
                self.T_i *= self.T_mult
        else:
            epoch = 0 if epoch is None else epoch
            if epoch < 0:
                raise ValueError(f"epoch is {epoch}, expected at least 0")
            self.T_cur, self.T_i = self._place(epoch)
        self.last_epoch = math.floor(epoch)
        self._set(self.get_lr())

    def _place(self, epoch: float) -> tuple[float, int]:
        """Return T_cur and T_i at `epoch`."""
        if epoch < self.T_0 or self.T_mult == 1:
            return epoch % self.T_0, self.T_0
        restarts = int(math.log(epoch / self.T_0 * (self.T_mult - 1) + 1, self.T_mult))
        before = self.T_0 * (self.T_mult**restarts - 1) / (self.T_mult - 1)
        return epoch - before, self.T_0 * self.T_mult**restarts
