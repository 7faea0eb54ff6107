"""A training step in nnk."""

from __future__ import annotations

from collections.abc import Callable

from workload import Workload

from nnk import nn, optim


def start(workload: Workload) -> Callable[[], float]:
    """A function that trains one step and returns the loss before it."""
    model, criterion = workload.model(), nn.CrossEntropyLoss()
    optimizer = getattr(optim, workload.optimizer)(model.parameters(), **workload.options)
    x, labels = workload.data()

    def step() -> float:
        loss = criterion(model(x), labels)
        optimizer.zero_grad()
        model.backward(criterion.backward(), input_grad=False)
        optimizer.step()
        return float(loss)

    return step
