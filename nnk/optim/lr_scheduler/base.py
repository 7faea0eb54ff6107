"""What schedules have in common: they set the rates of an optimiser's groups, step by step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any

from nnk.optim.optimizer import Optimizer

__all__ = ["LRScheduler", "attributes", "check_optimizer", "each"]


class LRScheduler:
    """The base class of schedules; a subclass defines `get_lr`.

    `last_epoch` is t. To go on with a run, give the last t and an optimiser whose groups hold "initial_lr".

    Raises TypeError when `optimizer` is none, KeyError when `last_epoch` is given and a group lacks "initial_lr".
    """

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1):
        check_optimizer(optimizer)
        self.optimizer = optimizer
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                raise KeyError(f"param_groups[{i}] has no 'initial_lr', which last_epoch={last_epoch} needs")
        self.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self._start()

    def _start(self) -> None:
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
        self._set(self.get_lr())

    def get_last_lr(self) -> list[float]:
        """Return the rates that the last step set."""
        return self._last_lr

    def state_dict(self) -> dict[str, Any]:
        """Return everything but the optimiser."""
        return {name: value for name, value in self.__dict__.items() if name != "optimizer"}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned, here or in PyTorch. The rates themselves are the optimiser's."""
        self.__dict__.update(state_dict)

    def restart(self) -> None:
        """Go to t = 0, whatever the rates are now: `SequentialLR` lets a schedule begin so."""
        self.last_epoch = 0
        self._set(self.first_lr())

    def first_lr(self) -> list[float]:
        """Return the rate of each group at t = 0."""
        return self.base_lrs

    def _set(self, rates: list[float]) -> None:
        for group, lr in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = lr
        self._last_lr = self._rates()

    def _rates(self) -> list[float]:
        return [group["lr"] for group in self.optimizer.param_groups]

    def _scaled(self, factor: float) -> list[float]:
        return [lr * factor for lr in self._rates()]


def check_optimizer(optimizer: Any) -> None:
    """Raise TypeError unless this is an optimiser."""
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"optimizer is a {type(optimizer).__name__}, expected an nnk.optim.Optimizer")


def attributes(function: Callable) -> dict[str, Any] | None:
    """Return what a callable object remembers, None for a function."""
    return None if isinstance(function, FunctionType) else dict(function.__dict__)


def each(value: Any, name: str, groups: int) -> list[Any]:
    """Return one value for each group."""
    if not isinstance(value, (list, tuple)):
        return [value] * groups
    if len(value) != groups:
        raise ValueError(f"{name} has {len(value)} values, expected {groups}, one for each group")
    return list(value)
