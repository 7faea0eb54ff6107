"""Batch norms that become part of the layer before them, for good."""

from __future__ import annotations

import copy
from collections import Counter

from nnk.nn import fusion
from nnk.nn.container import Identity
from nnk.nn.module import Module
from nnk.nn.parameter import Parameter

__all__ = ["fold_batchnorm"]

_AXES = {"conv": 4, "linear": 2}  # of what a layer makes


def fold_batchnorm(model: Module) -> Module:
    """Return a copy of `model` for inference, its batch norms folded into the convolution or linear layer before them.

        W' = s * W,    b' = s * (b - mean) + bias,    s = weight / sqrt(var + eps)     for every filter

    with the norm's running statistics, weight and bias. Outputs are equal to rounding. In each `Sequential` an
    `Identity` takes the norm's place, so that other modules keep their names. `model` itself stays as it is.

    Norms stay where they are behind anything else, where they use the batch's statistics, and behind a layer that the
    model holds in several places or whose parameters it shares. A linear layer's output is taken to be (N, C).

    Under `nnk.no_grad` convolutions do the work of a batch norm behind them anyway. Fold to save the model so.

    Raises TypeError unless `model` is a Module, ValueError on a norm to fold that is in training mode.
    Source: Jacob et al. (2018), arXiv:1712.05877, section 3.2.
    """
    if not isinstance(model, Module):
        raise TypeError(f"model is a {type(model).__name__}, expected a Module")
    model = copy.deepcopy(model)
    uses = Counter(
        id(value)
        for module in model.modules()
        for value in module.__dict__.values()
        if isinstance(value, (Module, Parameter))
    )
    for name, module in model.named_modules():
        if fusion.role(module) == "sequential":
            _fold_neighbours(module, name, uses)
    return model


def _fold_neighbours(container: Module, path: str, uses: Counter) -> None:
    layer = None
    for name, module in container._items():
        if fusion.role(module) == "identity":
            continue
        if layer is None or not _belong(layer, module) or not _stands_alone(layer, uses):
            layer = module
            continue
        if module.training:
            where = f"{path}.{name}" if path else name
            raise ValueError(f"{type(module).__name__} {where!r} is in training mode: call eval() first")
        _fold(layer, module)
        setattr(container, name, Identity().eval())


def _belong(layer: Module, norm: Module) -> bool:
    """Whether `norm` is a batch norm with running statistics that takes the outputs of `layer`."""
    return (
        fusion.role(norm) == "norm"
        and _AXES.get(fusion.role(layer)) in norm._shapes
        and norm.running_mean is not None
        and norm.num_features == len(layer.weight.data)
    )


def _stands_alone(layer: Module, uses: Counter) -> bool:
    """Whether the layer and its parameters stand in one place of the model each."""
    return all(uses[id(part)] <= 1 for part in (layer, layer.weight, layer.bias) if part is not None)


def _fold(layer: Module, norm: Module) -> None:
    scale, bias = norm.folded_into(None if layer.bias is None else layer.bias.data)
    weight = layer.weight
    weight.data = weight.data * scale.reshape(-1, *[1] * (weight.data.ndim - 1))
    weight.grad = None
    layer.bias = Parameter(bias, requires_grad=weight.requires_grad)
