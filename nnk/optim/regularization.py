"""What keeps weights small besides the penalties: which of them decay, a bound on their norm, noise on them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnk import backend, random
from nnk.dials import only_eager
from nnk.nn.arguments import number
from nnk.nn.module import Module
from nnk.nn.parameter import Parameter

__all__ = ["MaxNorm", "decay_groups", "max_norm_"]

_STREAM = 0x6E6F6973  # sets these random numbers apart from those of augmentations with the same seed


def decay_groups(model: Module, weight_decay: float, **options: Any) -> list[dict[str, Any]]:
    """Return two groups for an optimiser: the weights, which decay, and biases and norms, which do not.

        optim.SGD(optim.decay_groups(model, 5e-4), lr=0.1, momentum=0.9)

    Weights are the parameters of two axes and more, but for those of layers whose class name holds "Norm". `options` go
    to their group alone, as in ``decay_groups(model, 5e-4, l1=1e-5)``.
    Source: Goyal et al. (2017), arXiv:1706.02677, section 5.3, for batch norm's parameters.
    """
    weights, others = [], []
    for parameter, decays in _weights(model):
        (weights if decays else others).append(parameter)
    return [{"params": weights, "weight_decay": weight_decay, **options}, {"params": others, "weight_decay": 0.0}]


def _weights(model: Module) -> Iterable[tuple[Parameter, bool]]:
    """Yield every parameter once, and whether it is a weight."""
    norms = {
        parameter
        for module in model.modules()
        if "Norm" in type(module).__name__
        for parameter in module.parameters(recurse=False)
    }
    for parameter in model.parameters():
        yield parameter, parameter.ndim >= 2 and parameter not in norms


@dataclass(frozen=True)
class MaxNorm:
    """A constraint of a `Parameter`: the weights of each output unit, x[i], have a norm of at most `limit`.

        x[i] = x[i] * limit / (norm(x[i]) + 1e-7)        where norm(x[i]) > limit, as `torch.renorm` does

    Raises ValueError unless the limit is above 0.
    Source: Srivastava et al. (2014), "Dropout: a simple way to prevent neural networks from overfitting", section 5.1.
    """

    limit: float

    def __post_init__(self):
        if not number(self.limit, "limit") > 0:
            raise ValueError(f"limit is {self.limit}, expected above 0")

    def __call__(self, data: Any) -> None:
        """Bring `data`, an array of two axes or more, back to the limit in place."""
        backend.of(data).max_norm([data], limit=self.limit)


def max_norm_(model: Module, limit: float) -> None:
    """Bind all weights of `model` by `MaxNorm`, from now on and after every update.

    Weights are those that decay in `decay_groups`. Raises ValueError unless the limit is above 0, and where a weight
    has another constraint.
    """
    constraint = MaxNorm(limit)
    weights = [parameter for parameter, is_weight in _weights(model) if is_weight]
    for parameter in weights:
        if not (parameter.constraint is None or isinstance(parameter.constraint, MaxNorm)):
            raise ValueError(f"a parameter of shape {parameter.shape} has the constraint {parameter.constraint!r}")
    for parameter in weights:
        parameter.constraint = constraint
        constraint(parameter.data)


def perturb(parameters: list[Parameter], std: float, skip: Any = None) -> None:
    """Add Gaussian noise to all parameters, in place, drawn from the seed of `nnk.manual_seed` and the number of calls.

    Where `skip`, a 0-d array, is 1, the noise is 0.

    The same on every backend and any number of threads; a run that is resumed goes on with the same noise.
    """
    only_eager("an optimizer's noise")
    seed, call = random.next_call()
    first = 0
    for parameter in parameters:
        if parameter.size:
            rows = parameter.data.reshape(parameter.shape[0] if parameter.ndim > 1 else 1, 1, 1, -1)
            device = backend.device_of(rows)
            stds = backend.asarray_on(np.full(len(rows), std), device)
            backend.of(rows).image_noise(
                rows,
                stds if skip is None else stds * (1 - skip),
                backend.asarray_on(np.arange(first, first + len(rows)), device),
                seed=seed,
                call=call & 0xFFFFFFFF,
                stream=_STREAM,
                out=rows,
            )
            first += len(rows)
