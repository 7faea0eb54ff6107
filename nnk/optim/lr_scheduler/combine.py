"""Schedules made of schedules: one after the other, or all at once."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

from nnk.optim.lr_scheduler.base import LRScheduler, check_optimizer
from nnk.optim.lr_scheduler.plateau import ReduceLROnPlateau
from nnk.optim.optimizer import Optimizer

__all__ = ["ChainedScheduler", "SequentialLR"]


class _Combined(LRScheduler):
    """Holds schedules of one optimiser; their states are part of its own."""

    def _take(self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None, refused: tuple[type, ...]) -> None:
        if not schedulers:
            raise ValueError("schedulers is empty, expected at least one")
        for i, scheduler in enumerate(schedulers):
            if not isinstance(scheduler, LRScheduler):
                raise TypeError(f"schedulers[{i}] is a {type(scheduler).__name__}, expected a schedule")
            if isinstance(scheduler, refused):
                name = type(scheduler).__name__
                raise ValueError(f"schedulers[{i}] is a {name}, which {type(self).__name__} cannot hold")
            if optimizer is None:
                optimizer = scheduler.optimizer
            if scheduler.optimizer is not optimizer:
                raise ValueError(f"schedulers[{i}] has another optimizer, expected the same for all")
        check_optimizer(optimizer)
        self.optimizer = optimizer
        self._schedulers = list(schedulers)

    def state_dict(self) -> dict[str, Any]:
        """Return everything but the optimiser, the states of the schedules among it."""
        return {**super().state_dict(), "_schedulers": [scheduler.state_dict() for scheduler in self._schedulers]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned, here or in PyTorch. The rates themselves are the optimiser's."""
        ours = self._schedulers
        super().load_state_dict(state_dict)
        self._schedulers = ours
        for scheduler, saved in zip(ours, state_dict["_schedulers"], strict=True):
            scheduler.load_state_dict(saved)


class ChainedScheduler(_Combined):
    """Steps all its schedules in turn, so that their factors multiply.

    Raises ValueError on no schedules, on schedules of several optimisers and on `ReduceLROnPlateau`, whose step needs a
    metric.
    """

    def __init__(self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None = None):
        self._take(schedulers, optimizer, refused=(ReduceLROnPlateau,))
        self._last_lr = self._rates()

    def step(self) -> None:
        """Step every schedule."""
        for scheduler in self._schedulers:
            scheduler.step()
        self._last_lr = self._rates()


class SequentialLR(_Combined):
    """One schedule after the other: schedule i + 1 begins, with its t = 0, at step milestones[i].

    Warm-up in 5 steps, then half a cosine:

        warmup = LinearLR(optimizer, start_factor=0.01, total_iters=5)
        SequentialLR(optimizer, [warmup, CosineAnnealingLR(optimizer, T_max=95)], milestones=[5])

    Raises ValueError on no schedules, on schedules of other optimisers, on combined ones and `ReduceLROnPlateau`, and
    unless there is one milestone fewer than schedules.
    """

    def __init__(
        self, optimizer: Optimizer, schedulers: list[LRScheduler], milestones: list[int], last_epoch: int = -1
    ):
        check_optimizer(optimizer)
        self._take(schedulers, optimizer, refused=(ReduceLROnPlateau, _Combined))
        if len(milestones) != len(schedulers) - 1:
            raise ValueError(f"milestones has {len(milestones)} steps, expected {len(schedulers) - 1}")
        self._milestones = milestones
        self.last_epoch = last_epoch + 1
        # Each schedule has set the rates as if it were alone: the first one to run does it again, from the start.
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"]
        for scheduler in schedulers:
            scheduler.last_epoch -= 1
        first = self._schedulers[bisect_right(milestones, 0)]
        first._start()
        self._last_lr = first.get_last_lr()

    def step(self) -> None:
        """Step the schedule whose turn it is."""
        self.last_epoch += 1
        turn = bisect_right(self._milestones, self.last_epoch)
        scheduler = self._schedulers[turn]
        if turn > 0 and self._milestones[turn - 1] == self.last_epoch:
            scheduler.restart()
        else:
            scheduler.step()
        self._last_lr = scheduler.get_last_lr()
