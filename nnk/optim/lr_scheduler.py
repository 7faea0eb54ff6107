"""Learning-rate schedules, with the names, arguments and numbers of torch.optim.lr_scheduler.

A schedule changes ``group["lr"]`` of its optimiser's groups, at its construction and at every `step()`, which comes
after `optimizer.step()`. Most compute the next rate from the present one, so that several schedules on one optimiser
multiply. In the formulas t counts the steps, 0 at construction.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from nnk.nn.arguments import integer
from nnk.optim.optimizer import Optimizer

__all__ = [
    "CosineAnnealingLR",
    "ExponentialLR",
    "LRScheduler",
    "LinearLR",
    "MultiStepLR",
    "OneCycleLR",
    "StepLR",
]


class LRScheduler:
    """The base class of schedules; a subclass defines `get_lr`.

    `last_epoch` is t. To go on with a run, give the last t and an optimiser whose groups hold "initial_lr".

    Raises TypeError when `optimizer` is none, KeyError when `last_epoch` is given and a group lacks "initial_lr".
    """

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1):
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"optimizer is a {type(optimizer).__name__}, expected an nnk.optim.Optimizer")
        self.optimizer = optimizer
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                raise KeyError(f"param_groups[{i}] has no 'initial_lr', which last_epoch={last_epoch} needs")
        self.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self._step_count = 0
        self._is_initial = True
        self.step()
        self._is_initial = False

    def get_lr(self) -> list[float]:
        """Return the rate of each group at step `last_epoch`."""
        raise NotImplementedError

    def step(self) -> None:
        """Go on by one step and set the rates."""
        self._step_count += 1
        self.last_epoch += 1
        for group, lr in zip(self.optimizer.param_groups, self.get_lr(), strict=True):
            group["lr"] = lr
        self._last_lr = self._rates()

    def get_last_lr(self) -> list[float]:
        """Return the rates that the last step set."""
        return self._last_lr

    def state_dict(self) -> dict[str, Any]:
        """Return everything but the optimiser."""
        return {name: value for name, value in self.__dict__.items() if name != "optimizer"}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned, here or in PyTorch. The rates themselves are the optimiser's."""
        self.__dict__.update(state_dict)

    def _rates(self) -> list[float]:
        return [group["lr"] for group in self.optimizer.param_groups]

    def _scaled(self, factor: float) -> list[float]:
        return [lr * factor for lr in self._rates()]


class StepLR(LRScheduler):
    """lr = base_lr * gamma^floor(t / step_size)."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1):
        self.step_size = integer(step_size, "step_size", 1)
        self.gamma = gamma
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
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """Return the rate of each group at step `last_epoch`."""
        count = self.milestones.get(self.last_epoch, 0)
        return self._scaled(self.gamma**count) if count else self._rates()


class ExponentialLR(LRScheduler):
    """lr = base_lr * gamma^t."""

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1):
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """Return the rate of each group at step `last_epoch`."""
        return self._rates() if self._is_initial else self._scaled(self.gamma)


class CosineAnnealingLR(LRScheduler):
    """lr = eta_min + (base_lr - eta_min) * (1 + cos(π t / T_max)) / 2.

    Source: Loshchilov and Hutter (2017), arXiv:1608.03983, eq. 5, without restarts.
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1):
        self.T_max = T_max
        self.eta_min = eta_min
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
        if not 0 < start_factor <= 1:
            raise ValueError(f"start_factor is {start_factor}, expected 0 < start_factor <= 1")
        if not 0 <= end_factor <= 1:
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


class OneCycleLR(LRScheduler):
    """One cycle: up from max_lr / div_factor to max_lr, then down to max_lr / (div_factor * final_div_factor).

    The first pct_start of all steps go up, the others down, in the shape of a half cosine or of a line
    (`anneal_strategy` "cos" or "linear"); with `three_phase` down to where they began in as many steps as up, and on to
    the end in the rest. The number of steps is `total_steps`, or `epochs` * `steps_per_epoch`; step the schedule after
    every batch. With `cycle_momentum` the momentum (or Adam's beta1) goes the other way, from max_momentum to
    base_momentum and back. `max_lr`, `base_momentum` and `max_momentum` may be lists, a number for each group.

    Raises ValueError on arguments out of range, and in the step after the last.
    Source: Smith and Topin (2018), arXiv:1708.07120.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | list[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.85,
        max_momentum: float | list[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ):
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"optimizer is a {type(optimizer).__name__}, expected an nnk.optim.Optimizer")
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ValueError("total_steps is None, expected it or both epochs and steps_per_epoch")
            total_steps = integer(epochs, "epochs", 1) * integer(steps_per_epoch, "steps_per_epoch", 1)
        self.total_steps = integer(total_steps, "total_steps", 1)
        if not 0 <= pct_start <= 1:
            raise ValueError(f"pct_start is {pct_start}, expected 0 <= pct_start <= 1")
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"anneal_strategy is {anneal_strategy!r}, expected 'cos' or 'linear'")
        self._schedule_phases = _phases(self.total_steps, pct_start, three_phase)
        self._anneal_func_type = anneal_strategy
        self.cycle_momentum = cycle_momentum
        groups = optimizer.param_groups
        if cycle_momentum:
            if not {"momentum", "betas"} & optimizer.defaults.keys():
                raise ValueError("cycle_momentum=True needs an optimiser with momentum or betas")
            self.use_beta1 = "betas" in optimizer.defaults
        if last_epoch == -1:
            for group, lr in zip(groups, _each(max_lr, "max_lr", len(groups))):
                group["initial_lr"] = lr / div_factor
                group["max_lr"] = lr
                group["min_lr"] = group["initial_lr"] / final_div_factor
            if cycle_momentum:
                highest = _each(max_momentum, "max_momentum", len(groups))
                lowest = _each(base_momentum, "base_momentum", len(groups))
                for group, high, low in zip(groups, highest, lowest):
                    group["max_momentum"], group["base_momentum"] = high, low
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """Return the rate of each group at step `last_epoch`, and set its momentum."""
        if self.last_epoch > self.total_steps:
            raise ValueError(f"step {self.last_epoch} of a cycle of total_steps {self.total_steps}")
        start = 0.0
        for phase in self._schedule_phases:
            end = phase["end_step"]
            if self.last_epoch <= end:
                break
            if phase is not self._schedule_phases[-1]:
                start = end
        done = (self.last_epoch - start) / (end - start) if end != start else 1.0
        rates = []
        for group in self.optimizer.param_groups:
            rates.append(self._between(group[phase["start_lr"]], group[phase["end_lr"]], done))
            if self.cycle_momentum:
                momentum = self._between(group[phase["start_momentum"]], group[phase["end_momentum"]], done)
                if self.use_beta1:
                    group["betas"] = (momentum, *group["betas"][1:])
                else:
                    group["momentum"] = momentum
        return rates

    def _between(self, start: float, end: float, done: float) -> float:
        if self._anneal_func_type == "cos":
            return end + (start - end) / 2.0 * (math.cos(math.pi * done) + 1)
        return (end - start) * done + start


def _phases(total_steps: int, pct_start: float, three_phase: bool) -> list[dict[str, Any]]:
    """Return the phases of a cycle: the step each ends at, and the names of what it leads from and to in the groups."""
    turns = [(float(pct_start * total_steps) - 1, "max_lr", "base_momentum")]
    if three_phase:
        turns.append((float(2 * pct_start * total_steps) - 2, "initial_lr", "max_momentum"))
    turns.append((total_steps - 1, "min_lr", "max_momentum"))
    phases = []
    start_lr, start_momentum = "initial_lr", "max_momentum"
    for end_step, end_lr, end_momentum in turns:
        phases.append(
            {
                "end_step": end_step,
                "start_lr": start_lr,
                "end_lr": end_lr,
                "start_momentum": start_momentum,
                "end_momentum": end_momentum,
            }
        )
        start_lr, start_momentum = end_lr, end_momentum
    return phases


def _each(value: float | list[float], name: str, groups: int) -> list[float]:
    """Return one value for each group."""
    if not isinstance(value, (list, tuple)):
        return [value] * groups
    if len(value) != groups:
        raise ValueError(f"{name} has {len(value)} values, expected {groups}, one for each group")
    return list(value)
