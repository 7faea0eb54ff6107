"""Training steps to compare: networks, batches, optimisers, and how each library is asked for them.

This file imports no kernels, so that a process that measures another library's memory holds none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

import nnk
from nnk import models

IMAGES = {"digits_cnn": (1, 8, 8), "resnet50": (3, 224, 224)}  # (3, 32, 32) for all others
BATCHES = {"resnet18": (128, 32), "vgg8": (64,), "resnet20": (128, 32), "mobilenet": (64,), "digits_cnn": (64,)}
# The same names and arguments in both libraries. Small rates: the same batch comes again and again.
OPTIMIZERS = {
    "SGD": {"lr": 1e-3, "momentum": 0.9, "weight_decay": 5e-4},
    "Adam": {"lr": 1e-4},
}
CLASSES = 10


@dataclass(frozen=True)
class Workload:
    """Steps of one network and optimiser on one random batch."""

    network: str
    batch: int
    optimizer: str

    @property
    def name(self) -> str:
        return f"{self.network}, {self.batch} images, {self.optimizer}"

    @property
    def options(self) -> dict[str, float]:
        """The optimiser's."""
        return OPTIMIZERS[self.optimizer]

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """Images (N, C, H, W) and labels."""
        rng = np.random.default_rng(0)
        shape = (self.batch, *self._image_shape)
        return rng.standard_normal(shape, np.float32), rng.integers(0, CLASSES, self.batch)

    def model(self) -> Any:
        """The network in nnk, every time with the same weights: the other libraries copy it."""
        nnk.manual_seed(0)
        return models.create(self.network, self._image_shape, CLASSES)

    @property
    def _image_shape(self) -> tuple[int, int, int]:
        return IMAGES.get(self.network, (3, 32, 32))

    def start(self, library: str) -> Callable[[], float]:
        """A function that trains one step in "nnk", "torch <memory format>" or "jax" and returns the loss before it."""
        name, *layout = library.split()
        return import_module(f"step_{name}").start(self, *layout)


WORKLOADS = {
    workload.name: workload
    for network, batches in BATCHES.items()
    for batch in batches
    for workload in (Workload(network, batch, optimizer) for optimizer in OPTIMIZERS)
}
