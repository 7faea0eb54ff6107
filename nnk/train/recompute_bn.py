"""Running statistics, computed anew."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

import nnk
from nnk import nn
from nnk.data import DataLoader
from nnk.nn.normbase import RunningNorm

from .batches import brought, device_of


def recompute_bn(model: nn.Module, loader: Iterable[Any]) -> None:
    """Set the running statistics of a model's norms to those of the whole training set, for its present weights.

    What training leaves there is an average over the last batches, by weights of the past. This passes all data through
    the model once, the norms using each batch's own statistics as in training, all other modules in eval mode. With
    batches of n samples, N in all, of m values per channel with mean μ and (biased) variance σ²,

        running_mean = Σ n μ / N        running_var = Σ n σ² m / (m - 1) / N

    the second being without bias. Modes and momenta of the modules are as before afterwards. A model without running
    statistics stays as it is, and so does the order of a `DataLoader`'s next epochs.

    Args:
        model: the model.
        loader: batches of inputs, arrays or tuples whose first item they are: a `DataLoader`, or any other iterable.

    Raises:
        ValueError: the loader has no batch; or the norms' own, for a batch with one value per channel.

    Source: Ioffe and Szegedy (2015), arXiv:1502.03167, algorithm 2, line 10.
    """
    norms = [norm for norm in model.modules() if isinstance(norm, RunningNorm) and norm.running_mean is not None]
    if not norms:
        return
    before = [(module, module.training) for module in model.modules()], [(norm, norm.momentum) for norm in norms]
    totals = {id(norm): _Totals() for norm in norms}
    samples = 0

    def add(module: nn.Module, _: Any) -> None:
        if id(module) in totals:
            totals[id(module)].add(module, samples)

    try:
        model.eval()
        for norm in norms:
            norm.train()
            norm.reset_running_stats()
            norm.momentum = 1.0  # so that each batch leaves its own
        with nnk.no_grad(), nn.watch(add):
            for batch in loader.batches(0) if isinstance(loader, DataLoader) else loader:
                x = brought(batch[0] if isinstance(batch, (tuple, list)) else batch, device_of(model))
                samples = len(x)
                model(x)
    finally:
        for module, training in before[0]:
            module.training = training
        for norm, momentum in before[1]:
            norm.momentum = momentum
    if not any(total.samples for total in totals.values()):
        raise ValueError("loader has no batch to take statistics from")
    for norm in norms:
        totals[id(norm)].write(norm)


class _Totals:
    """Statistics of batches, each times its number of samples, added up; a norm used twice counts twice."""

    def __init__(self):
        self.mean: Any = 0.0
        self.var: Any = 0.0
        self.samples = 0

    def add(self, norm: RunningNorm, samples: int) -> None:
        self.mean = self.mean + samples * norm.running_mean.astype(np.float64)
        self.var = self.var + samples * norm.running_var.astype(np.float64)
        self.samples += samples

    def write(self, norm: RunningNorm) -> None:
        if self.samples:
            norm.running_mean[...] = self.mean / self.samples
            norm.running_var[...] = self.var / self.samples
