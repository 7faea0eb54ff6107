"""Schedules that go up and down, after every batch: again and again, or once."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from nnk.nn.arguments import integer, number
from nnk.optim.lr_scheduler.base import LRScheduler, attributes, check_optimizer, each
from nnk.optim.optimizer import Optimizer

__all__ = ["CyclicLR", "OneCycleLR"]


class CyclicLR(LRScheduler):
    """Up from base_lr to max_lr in step_size_up steps, down again in step_size_down (as many for None), and so on.

        cycle = floor(1 + t / (step_size_up + step_size_down))
        lr = base_lr + (max_lr - base_lr) * (height in the triangle, 0 to 1) * scale

    The scale is 1 in the `mode` "triangular", 2^(1 - cycle) in "triangular2", gamma^t in "exp_range", or what
    `scale_fn` returns, if given, for the cycle or for t (`scale_mode` "cycle" or "iterations"). With `cycle_momentum`
    the momentum (or Adam's beta1) goes the other way, from max_momentum to base_momentum. Step it after every batch.
    `base_lr`, `max_lr` and the momenta may be lists, a number for each group. A `scale_fn` that is a function is not
    part of `state_dict`; of other callables the attributes are.

    Raises ValueError on another mode and on momentum to be cycled where there is none.
    Source: Smith (2017), arXiv:1506.01186.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        base_lr: float | list[float],
        max_lr: float | list[float],
        step_size_up: int = 2000,
        step_size_down: int | None = None,
        mode: str = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[float], float] | None = None,
        scale_mode: str = "cycle",
        cycle_momentum: bool = True,
        base_momentum: float = 0.8,
        max_momentum: float = 0.9,
        last_epoch: int = -1,
    ):
        check_optimizer(optimizer)
        groups = optimizer.param_groups
        base_lrs = each(base_lr, "base_lr", len(groups))
        if last_epoch == -1:
            for group, lr in zip(groups, base_lrs):
                group["lr"] = lr
        self.max_lrs = each(max_lr, "max_lr", len(groups))
        up = float(step_size_up)
        self.total_size = up + (up if step_size_down is None else float(step_size_down))
        if not 0 < up < math.inf or not up <= self.total_size:
            raise ValueError(f"step_size_up is {step_size_up}, step_size_down {step_size_down}, expected above 0")
        self.step_ratio = up / self.total_size
        if scale_fn is None and mode not in ("triangular", "triangular2", "exp_range"):
            raise ValueError(f"mode is {mode!r}, expected 'triangular', 'triangular2' or 'exp_range'")
        self.mode = mode
        self.gamma = number(gamma, "gamma")
        self._scale_fn_custom = scale_fn
        if scale_fn is None:
            scale_mode = "iterations" if mode == "exp_range" else "cycle"
        self.scale_mode = scale_mode
        self.cycle_momentum = cycle_momentum
        if cycle_momentum:
            self.use_beta1 = _uses_beta1(optimizer)
            self.base_momentums = each(base_momentum, "base_momentum", len(groups))
            self.max_momentums = each(max_momentum, "max_momentum", len(groups))
            if last_epoch == -1:
                for group, low, high in zip(groups, self.base_momentums, self.max_momentums):
                    _set_momentum(group, high)
                    group["max_momentum"], group["base_momentum"] = high, low
        super().__init__(optimizer, last_epoch)
        self.base_lrs = base_lrs

    def scale_fn(self, x: float) -> float:
        """Return the scale for a cycle (from 1) or for t, as `scale_mode` says."""
        if self._scale_fn_custom is not None:
            return self._scale_fn_custom(x)
        return {"triangular": 1.0, "triangular2": 2.0 ** (1 - x), "exp_range": self.gamma**x}[self.mode]

    def get_lr(self) -> list[float]:
        """Return the rate of each group at step `last_epoch`, and set its momentum."""
        cycle = math.floor(1 + self.last_epoch / self.total_size)
        x = 1.0 + self.last_epoch / self.total_size - cycle
        height = x / self.step_ratio if x <= self.step_ratio else (x - 1) / (self.step_ratio - 1)
        scale = self.scale_fn(cycle if self.scale_mode == "cycle" else self.last_epoch)
        if self.cycle_momentum:
            momenta = zip(self.base_momentums, self.max_momentums)
            for group, (low, high) in zip(self.optimizer.param_groups, momenta, strict=True):
                _set_momentum(group, high - (high - low) * height * scale)
        return [low + (high - low) * height * scale for low, high in zip(self.base_lrs, self.max_lrs, strict=True)]

    def first_lr(self) -> list[float]:
        """Return the rate of each group at t = 0."""
        return self.get_lr()

    def state_dict(self) -> dict[str, Any]:
        """Return everything but the optimiser and functions."""
        scale = self._scale_fn_custom
        return {**super().state_dict(), "_scale_fn_custom": None if scale is None else attributes(scale)}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned, here or in PyTorch. The rates themselves are the optimiser's."""
        scale, saved = self._scale_fn_custom, state_dict["_scale_fn_custom"]
        super().load_state_dict(state_dict)
        self._scale_fn_custom = scale
        if saved is not None:
            scale.__dict__.update(saved)


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
        check_optimizer(optimizer)
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ValueError("total_steps is None, expected it or both epochs and steps_per_epoch")
            total_steps = integer(epochs, "epochs", 1) * integer(steps_per_epoch, "steps_per_epoch", 1)
        self.total_steps = integer(total_steps, "total_steps", 1)
        number(div_factor, "div_factor")
        number(final_div_factor, "final_div_factor")
        if not 0 <= number(pct_start, "pct_start") <= 1:
            raise ValueError(f"pct_start is {pct_start}, expected 0 <= pct_start <= 1")
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"anneal_strategy is {anneal_strategy!r}, expected 'cos' or 'linear'")
        self._schedule_phases = _phases(self.total_steps, pct_start, three_phase)
        self._anneal_func_type = anneal_strategy
        self.cycle_momentum = cycle_momentum
        groups = optimizer.param_groups
        if cycle_momentum:
            self.use_beta1 = _uses_beta1(optimizer)
        if last_epoch == -1:
            for group, lr in zip(groups, each(max_lr, "max_lr", len(groups))):
                group["initial_lr"] = lr / div_factor
                group["max_lr"] = lr
                group["min_lr"] = group["initial_lr"] / final_div_factor
            if cycle_momentum:
                highest = each(max_momentum, "max_momentum", len(groups))
                lowest = each(base_momentum, "base_momentum", len(groups))
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
                _set_momentum(group, momentum)
        return rates

    def first_lr(self) -> list[float]:
        """Return the rate of each group at t = 0."""
        return self.get_lr()

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


def _uses_beta1(optimizer: Optimizer) -> bool:
    """Return whether beta1 stands for the momentum; raise ValueError where there is neither."""
    if {"momentum", "betas"}.isdisjoint(optimizer.defaults):
        raise ValueError("cycle_momentum=True needs an optimiser with momentum or betas")
    return "betas" in optimizer.defaults


def _set_momentum(group: dict[str, Any], momentum: float) -> None:
    if "betas" in group:
        group["betas"] = (momentum, *group["betas"][1:])
    else:
        group["momentum"] = momentum
