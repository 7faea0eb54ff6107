"""A training step in PyTorch: eager, in either memory format, with its fused optimisers."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from peers import FORMATS
from workload import Workload

from nnk import nn


class Residual(torch.nn.Module):
    """What `nnk.nn.Residual` is."""

    def __init__(self, body: torch.nn.Module, shortcut: torch.nn.Module | None):
        super().__init__()
        self.body, self.shortcut = body, shortcut

    def forward(self, x):
        return self.body(x) + (x if self.shortcut is None else self.shortcut(x))


def twin(module: nn.Module | None) -> torch.nn.Module | None:
    """The same module in PyTorch, with weights of its own."""
    if module is None:
        return None
    if isinstance(module, nn.Sequential):
        return torch.nn.Sequential(*map(twin, module))
    if isinstance(module, nn.Residual):
        return Residual(twin(module.body), twin(module.shortcut))
    kind = getattr(torch.nn, type(module).__name__)
    names = [name for name in inspect.signature(kind).parameters if hasattr(module, name)]
    return kind(**{name: _argument(name, getattr(module, name)) for name in names})


def _argument(name: str, value: Any) -> Any:
    return value is not None if name == "bias" else value


def start(workload: Workload, layout: str) -> Callable[[], float]:
    """A function that trains one step and returns the loss before it."""
    source = workload.model()
    model = twin(source).to(memory_format=FORMATS[layout])
    model.load_state_dict({key: torch.from_numpy(value) for key, value in source.state_dict().items()})
    optimizer = getattr(torch.optim, workload.optimizer)(model.parameters(), fused=True, **workload.options)
    x, labels = map(torch.from_numpy, workload.data())
    x = x.contiguous(memory_format=FORMATS[layout])
    criterion = torch.nn.CrossEntropyLoss()

    def step() -> float:
        loss = criterion(model(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step
