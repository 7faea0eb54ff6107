"""What one batch does to a model: its gradients, and the update from them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from nnk import backend, nn, optim

from .metrics import Means
from .precision import MixedPrecision


class Step:
    """The parts of a training step, and the means that they add to.

    On a CPU a loss is a float. On a GPU it stays there, with the metrics, and is looked at when the means are read.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: nn.Module,
        optimizer: optim.Optimizer,
        metrics: dict[str, Callable[[Any, Any], Any]],
        accumulate: int,
        clipping: dict[str, float],
        precision: MixedPrecision,
    ):
        self.model, self.loss, self.optimizer, self.metrics = model, loss, optimizer, metrics
        self.precision = precision
        self.accumulate, self.clipping = accumulate, clipping
        self.means = Means()

    def train(self) -> None:
        """Put model and loss into training mode."""
        self.model.train()
        self.loss.train()

    def gradients(self, x: Any, y: Any) -> Any:
        """Add the batch's gradients, where its loss is finite, and its means; return the loss."""
        loss, output = self.back_and_forth(x, y, weight=1 if self.accumulate == 1 else len(x))
        if backend.on_gpu(loss) or math.isfinite(loss):
            self.means.weigh(self.numbers(loss, output, y), len(x))
        return loss

    def back_and_forth(self, x: Any, y: Any, weight: int = 1) -> tuple[Any, Any]:
        """Return loss and output; add ``weight`` times the gradients, on a CPU only where the loss is finite."""
        precision = self.precision
        output = precision.widen(self.model(precision.narrow(x)))
        loss = self.loss(output, y)
        if np.shape(loss):
            raise ValueError(f"loss has shape {np.shape(loss)}, expected one number: reduction='mean' or 'sum'")
        value = loss if backend.on_gpu(loss) else float(loss)
        if backend.on_gpu(loss) or math.isfinite(value):
            gradient = self.loss.backward(precision.weigh(np.full_like(loss, weight)))
            self.model.backward(precision.narrow(gradient), input_grad=False)
        return value, output

    def update(self, samples: int) -> None:
        """Update the weights from the gradients of so many samples."""
        if self.accumulate > 1:
            for parameter in (p for group in self.optimizer.param_groups for p in group["params"]):
                if parameter.grad is not None:
                    parameter.grad = parameter.grad / parameter.grad.dtype.type(samples)
        self.precision.update(self.optimizer, self.clipping)

    def culprit(self, x: Any) -> str:
        """Say where numbers stop being finite in the forward of a batch."""
        if not np.isfinite(x).all():
            return ": the input holds a number that is not finite"
        found = nn.first_nonfinite(self.model, x)
        if found is None:
            return ", yet the outputs of all layers are finite"
        name, module = found
        return f": the first layer whose output is not finite is {name or 'the model'} ({type(module).__name__})"

    def numbers(self, loss: Any, output: Any, target: Any) -> dict[str, Any]:
        """Return the loss and all metrics of a batch by name."""
        return {"loss": loss, **{name: metric(output, target) for name, metric in self.metrics.items()}}
