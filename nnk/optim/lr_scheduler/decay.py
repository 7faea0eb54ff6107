"""Schedules whose rate is a factor of t times the base rate: in steps, linear, exponential, polynomial, your own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from nnk.nn.arguments import integer, number
from nnk.optim.lr_scheduler.base import LRScheduler, attributes, check_optimizer, each
from nnk.optim.optimizer import Optimizer

__all__ = ["ConstantLR", "ExponentialLR", "LambdaLR", "LinearLR", "MultiStepLR", "PolynomialLR", "StepLR"]


class StepLR(LRScheduler):
    """lr = base_lr * gamma^floor(t / step_size).

    Raises TypeError or ValueError unless step_size is an int of at least 1.
    """

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1):
        self.step_size = integer(step_size, "step_size", 1)
        self.gamma = number(gamma, "gamma")
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """Return the rate of each group at step `last_epoch`."""
        if self._is_initial or self.last_epoch % self.step_size:
            return self._rates()
        return self._scaled(self.gamma)


class MultiStepLR(LRScheduler):
    """lr = base_lr * gamma^(number of milestones up to t); a milestone named twice counts twice."""

    def __init__(self, optimizer: Optimizer, milestones: Iterable[int], gamma: float = 0.1, last_epoch: int = -1):
        self.milestones = Counter(milestones)
        self.gamma = number(gamma, "gamma")
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """Return the rate of each group at step `last_epoch`."""
        count = self.milestones.get(self.last_epoch, 0)
        return self._scaled(self.gamma**count) if count else self._rates()

    def first_lr(self) -> list[float]:
        """Return the rate of each group at t = 0, which may be a milestone."""
        return [lr * self.gamma ** self.milestones.get(0, 0) for lr in self.base_lrs]


class ConstantLR(LRScheduler):
    """lr = base_lr * factor for t < total_iters, then base_lr.

    Raises ValueError unless 0 < factor <= 1 (PyTorch accepts 0 and divides by it at the end).
    """

    def __init__(
        self, optimizer: Optimizer, factor: float = 1.0 / 3, total_iters: int = 5, last_epoch: int = -1
    ):
        if not 0 < number(factor, "factor") <= 1:
            raise ValueError(f"factor is {factor}, expected 0 < factor <= 1")
        self.factor = factor
        self.total_iters = total_iters
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """Return the rate of each group at step `last_epoch`."""
        if self.last_epoch == 0:
            return self._scaled(self.factor)
        return self._scaled(1.0 / self.factor) if self.last_epoch == self.total_iters else self._rates()

    def first_lr(self) -> list[float]:
        """Return the rate of each group at t = 0."""
        return [lr * (self.factor if self.total_iters > 0 else 1.0) for lr in self.base_lrs]


class LinearLR(LRScheduler):
    """lr = base_lr * factor, where factor goes from start_factor to end_factor in `total_iters` equal steps and stays.

    Raises ValueError unless 0 < start_factor <= 1 and 0 <= end_factor <= 1.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1.0 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ):
        if not 0 < number(start_factor, "start_factor") <= 1:
            raise ValueError(f"start_factor is {start_factor}, expected 0 < start_factor <= 1")
        if not 0 <= number(end_factor, "end_factor") <= 1:
            raise ValueError(f"end_factor is {end_factor}, expected 0 <= end_factor <= 1")
        self.start_factor = start_factor
        self.end_factor = end_factor
        self.total_iters = total_iters
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """Return the rate of each group at step `last_epoch`."""
        if self.last_epoch == 0:
            return self._scaled(self.start_factor)
        if self._is_initial or self.last_epoch > self.total_iters:
            return self._rates()
        rise = self.end_factor - self.start_factor
        before = self.total_iters * self.start_factor + (self.last_epoch - 1) * rise
        return self._scaled(1.0 + rise / before)

    def first_lr(self) -> list[float]:
        """Return base_lr * start_factor for each group."""
        return [lr * self.start_factor for lr in self.base_lrs]


class ExponentialLR(LRScheduler):
    """lr = base_lr * gamma^t."""

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1):
        self.gamma = number(gamma, "gamma")
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """Return the rate of each group at step `last_epoch`."""
        return self._rates() if self._is_initial else self._scaled(self.gamma)


class PolynomialLR(LRScheduler):
    """lr = base_lr * (1 - t / total_iters)^power for t <= total_iters, then 0.

    Source: Chen et al. (2017), "DeepLab", arXiv:1606.00915, section 4.1, which calls it "poly".
    """

    def __init__(self, optimizer: Optimizer, total_iters: int = 5, power: float = 1.0, last_epoch: int = -1):
        self.total_iters = total_iters
        self.power = number(power, "power")
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """Return the rate of each group at step `last_epoch`."""
        if self._is_initial or self.last_epoch > self.total_iters:
            return self._rates()
        now, before = (1.0 - t / self.total_iters for t in (self.last_epoch, self.last_epoch - 1))
        return self._scaled((now / before) ** self.power)


class LambdaLR(LRScheduler):
    """lr = base_lr * lr_lambda(t); `lr_lambda` may be a list, a function for each group.

    Functions are not part of `state_dict`; of other callables the attributes are.
    Raises ValueError when there are not as many functions as groups.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | list[Callable[[int], float]],
        last_epoch: int = -1,
    ):
        check_optimizer(optimizer)
        self.lr_lambdas = each(lr_lambda, "lr_lambda", len(optimizer.param_groups))
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """Return the rate of each group at step `last_epoch`."""
        return [lr * factor(self.last_epoch) for lr, factor in zip(self.base_lrs, self.lr_lambdas, strict=True)]

    def first_lr(self) -> list[float]:
        """Return base_lr * lr_lambda(0) for each group."""
        return self.get_lr()

    def state_dict(self) -> dict[str, Any]:
        """Return everything but the optimiser and functions."""
        return {**super().state_dict(), "lr_lambdas": [attributes(factor) for factor in self.lr_lambdas]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned, here or in PyTorch. The rates themselves are the optimiser's."""
        ours = self.lr_lambdas
        super().load_state_dict(state_dict)
        self.lr_lambdas = ours
        for factor, saved in zip(ours, state_dict["lr_lambdas"], strict=True):
            if saved is not None:
                factor.__dict__.update(saved)
