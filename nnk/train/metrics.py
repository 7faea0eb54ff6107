"""Numbers that describe how well a model does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nnk.nn.arguments import integer


def accuracy(output: np.ndarray, target: np.ndarray) -> float:
    """Share of samples whose largest output (N, C, …) is the target class (N, …), or its likeliest one (N, C, …).

    Raises ValueError for other shapes.
    """
    return float((output.argmax(1) == _classes(output, target)).mean())


def top_k(k: int) -> Callable[[np.ndarray, np.ndarray], float]:
    """Return the metric: share of samples whose target class (N, …) is among the k largest outputs (N, C, …).

    A target (N, C, …) of probabilities stands for its likeliest class. ``Trainer(..., metrics={"top_5": top_k(5)})``.
    Raises ValueError for a k below 1; the metric does for k > C and other shapes.
    """
    integer(k, "k", least=1)

    def top(output: np.ndarray, target: np.ndarray) -> float:
        if k > output.shape[1]:
            raise ValueError(f"k is {k}, expected at most the number of classes, {output.shape[1]}")
        target = _classes(output, target)
        best = np.argpartition(-output, k - 1, axis=1)[:, :k]
        return float((best == np.expand_dims(target, 1)).any(1).mean())

    return top


def _classes(output: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the target classes, (N, …), for outputs (N, C, …)."""
    if target.shape == output.shape:
        return target.argmax(1)
    if target.shape != output.shape[:1] + output.shape[2:]:  # which might broadcast, and compare each with all
        raise ValueError(f"target has shape {target.shape} for an output {output.shape}, expected (N, …) or (N, C, …)")
    return target


class Means:
    """Means over all samples seen, from the means of batches."""

    def __init__(self) -> None:
        self.samples = 0
        self.sums: dict[str, float] = {}

    def add(self, means: dict[str, float], samples: int) -> None:
        """Add the means over one batch of ``samples``."""
        self.samples += samples
        for name, mean in means.items():
            self.sums[name] = self.sums.get(name, 0.0) + mean * samples

    def means(self) -> dict[str, float]:
        """Return the means so far."""
        return {name: total / self.samples for name, total in self.sums.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` takes."""
        return {"samples": self.samples, "sums": dict(self.sums)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self.samples, self.sums = state["samples"], dict(state["sums"])
