"""Numbers that describe how well a model does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nnk import backend
from nnk.nn.arguments import integer


def accuracy(output: Any, target: Any) -> Any:
    """Share of samples whose largest output (N, C, …) is the target class (N, …), or its likeliest one (N, C, …).

    A float; of outputs on a GPU a 0-d array there, for which nobody waits. Raises ValueError for other shapes.
    """
    return _number((output.argmax(1) == _classes(output, target)).mean())


def top_k(k: int) -> Callable[[Any, Any], Any]:
    """Return the metric: share of samples whose target class (N, …) is among the k largest outputs (N, C, …).

    A target (N, C, …) of probabilities stands for its likeliest class. ``Trainer(..., metrics={"top_5": top_k(5)})``.
    Its result is of the kind of `accuracy`'s.
    Raises ValueError for a k below 1; the metric does for k > C and other shapes.
    """
    integer(k, "k", least=1)

    def top(output: Any, target: Any) -> Any:
        if k > output.shape[1]:
            raise ValueError(f"k is {k}, expected at most the number of classes, {output.shape[1]}")
        target = _classes(output, target)
        best = np.argpartition(-output, k - 1, axis=1)[:, :k]
        return _number((best == np.expand_dims(target, 1)).any(1).mean())

    return top


def _number(mean: Any) -> Any:
    return mean if backend.on_gpu(mean) else float(mean)


def _classes(output: Any, target: Any) -> Any:
    """Return the target classes, (N, …), for outputs (N, C, …)."""
    if target.shape == output.shape:
        return target.argmax(1)
    if target.shape != output.shape[:1] + output.shape[2:]:  # which might broadcast, and compare each with all
        raise ValueError(f"target has shape {target.shape} for an output {output.shape}, expected (N, …) or (N, C, …)")
    return target


class Means:
    """Means over all samples seen, from the means of batches.

    Where those are on a GPU, so are their sums, always in the same place: nobody waits for them until they are read.
    """

    def __init__(self) -> None:
        self.samples = 0
        self.sums: dict[str, Any] = {}

    def add(self, means: dict[str, Any], samples: int) -> None:
        """Add the means over one batch of ``samples``."""
        self.samples += samples
        self.weigh(means, samples)

    def weigh(self, means: dict[str, Any], samples: int) -> None:
        """Add the means but not the ``samples``, which a captured step has to count by itself."""
        for name, mean in means.items():
            total = self.sums.get(name, 0.0)
            if backend.on_gpu(mean):
                if not hasattr(total, "shape"):
                    self.sums[name] = total = backend.asarray_on(np.array(total), backend.device_of(mean))
                total += np.multiply(mean, samples, dtype=np.float64)
            else:
                self.sums[name] = total + mean * samples

    def clear(self) -> None:
        """Begin anew."""
        self.samples = 0
        for name, total in self.sums.items():
            if hasattr(total, "shape"):
                total.fill(0)
            else:
                self.sums[name] = 0.0

    def means(self) -> dict[str, float]:
        """Return the means so far."""
        return {name: float(total) / self.samples for name, total in self.sums.items()} if self.samples else {}

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` takes."""
        return {"samples": self.samples, "sums": {name: float(total) for name, total in self.sums.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self.samples, self.sums = state["samples"], dict(state["sums"])
