"""Initialisations of a whole network, which look at its structure or at data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from nnk import backend
from nnk.nn.init.fill import kaiming_normal_, orthogonal_, zeros_
from nnk.nn.inspect import untouched
from nnk.nn.module import Module
from nnk.nn.parameter import Parameter
from nnk.nn.pending import no_grad, watch

__all__ = ["fixup_", "lsuv_"]


def _is_weighted(module: Module) -> bool:
    """Return whether this is a convolution, a linear or a maxout layer: it has weights of two axes or more."""
    weight = getattr(module, "weight", None)
    return isinstance(weight, Parameter) and weight.ndim > 1 and "Norm" not in type(module).__name__


def _without_bias(module: Module) -> None:
    if getattr(module, "bias", None) is not None:
        zeros_(module.bias)


def fixup_(model: Module, generator: np.random.Generator | None = None) -> Module:
    """Start a residual network such that it trains without normalisation, however deep; return `model`.

    All weights are drawn by `kaiming_normal_` for ReLU and biases are 0; in each of L residual branches (`body` of
    `Residual`) of m layers the last layer's weights are 0, the others' are scaled by L^(-1 / (2m - 2)); the model's
    last layer, unless it is in a `Residual`, starts at 0. So each block passes its input on at first, and a step
    changes the output by as much in a deep network as in a flat one. The paper's third rule, a scalar factor in each
    branch and scalar biases before its layers, belongs into the model; layers with biases do for the latter.

    Raises ValueError when there is no residual branch with weights.
    Source: Zhang, Dauphin and Ma (2019), arXiv:1901.09321, section 3.
    """
    from nnk.nn.container import Residual  # whose file needs this package

    residuals = [module for module in model.modules() if isinstance(module, Residual)]
    bodies: dict[Module, Module] = {}  # of each layer in a branch; of branches within branches the innermost
    for residual in residuals:
        bodies |= dict.fromkeys(filter(_is_weighted, residual.body.modules()), residual.body)
    if not bodies:
        raise ValueError("model has no Residual with weights in its body")
    branches: dict[Module, list[Module]] = {}
    for layer, body in bodies.items():
        branches.setdefault(body, []).append(layer)
    layers = [module for module in model.modules() if _is_weighted(module)]
    for layer in layers:
        kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
        _without_bias(layer)
    for *others, last in branches.values():
        zeros_(last.weight)
        for layer in others:
            layer.weight.data *= len(branches) ** (-1 / (2 * len(others)))
    if not any(layers[-1] is module for residual in residuals for module in residual.modules()):
        zeros_(layers[-1].weight)
    return model


class _Reached(Exception):
    """Ends a forward with the output of the layer that was waited for."""


def lsuv_(
    model: Module,
    x: Any,
    tolerance: float = 0.1,
    max_iterations: int = 10,
    generator: np.random.Generator | None = None,
) -> Module:
    """Layer-sequential unit variance: every layer's output has variance 1 on the batch `x`; return `model`.

    Weights start orthogonal and biases at 0. Then, layer by layer from the input on, weights are divided by the
    standard deviation of the layer's output, until its variance is within `tolerance` of 1 or `max_iterations` are
    done. The forwards run in the modes that the modules are in; running statistics and random numbers stay as they are,
    but for those drawn for the weights.

    Raises ValueError when an output is constant or not finite, naming the layer.
    Source: Mishkin and Matas (2016), arXiv:1511.06422, algorithm 1.
    """
    x = backend.as_array(x)
    names = {module: name for name, module in model.named_modules() if _is_weighted(module)}
    for layer in names:
        orthogonal_(layer.weight, generator=generator)
        _without_bias(layer)
    with untouched(model), no_grad():
        for layer in list(_in_order_of_calls(model, x, names)):
            for _ in range(max_iterations):
                variance = float(np.var(_output(model, x, layer), dtype=np.float64))
                if not 0 < variance < np.inf:
                    raise ValueError(f"the output of {names[layer] or 'the model'} has variance {variance} for this x")
                if abs(variance - 1) <= tolerance:
                    break
                layer.weight.data /= variance**0.5
    return model


def _in_order_of_calls(model: Module, x: Any, wanted: dict[Module, str]) -> Iterator[Module]:
    called: dict[Module, None] = {}
    with watch(lambda module, output: called.setdefault(module)):
        model(x)
    return filter(wanted.__contains__, called)


def _output(model: Module, x: Any, layer: Module) -> Any:
    """Return the output of the layer at its first call; what comes after it is not computed."""

    def stop(module: Module, output: Any) -> None:
        if module is layer:
            raise _Reached(output)

    try:
        with watch(stop):
            model(x)
    except _Reached as reached:
        return reached.args[0]
    raise AssertionError("the layer was called before")
