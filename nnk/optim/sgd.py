"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from nnk import backend
from nnk.nn.arguments import number, only
from nnk.nn.parameter import Parameter
from nnk.optim.optimizer import Optimizer, at_least_zero

__all__ = ["SGD"]


class SGD(Optimizer):
    """Stochastic gradient descent with momentum, dampening, Nesterov's momentum and L2 weight decay.

        g = grad + weight_decay * p                          (-grad with maximize)
        b = momentum * b + (1 - dampening) * g               (b = g in the first step)
        p = p - lr * (g + momentum * b if nesterov else b)   (p - lr * g without momentum)

    `foreach`, `differentiable` and `fused` take their defaults only. Raises ValueError on options out of range.
    Sources: Robbins and Monro (1951); Sutskever et al. (2013), "On the importance of initialization and momentum in
    deep learning", for Nesterov's form.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.001,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
    ):
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
            "foreach": foreach,
            "differentiable": differentiable,
            "fused": fused,
        }
        super().__init__(params, defaults)

    def _check(self, group: dict[str, Any]) -> None:
        at_least_zero(group, "lr", "momentum", "weight_decay")
        number(group["dampening"], "dampening")
        if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
            raise ValueError(
                f"nesterov=True needs momentum > 0 and dampening 0, got momentum {group['momentum']} and dampening "
                f"{group['dampening']}"
            )
        only(group["foreach"], "foreach", None)
        only(group["differentiable"], "differentiable", False)
        only(group["fused"], "fused", None)

    def _update(self, group: dict[str, Any], params: list[Parameter], grads: list[Any], first: dict[str, Any]) -> None:
        options = {name: group[name] for name in ("lr", "momentum", "dampening", "nesterov")} | first
        if group["momentum"] == 0:
            arrays = [parameter.data for parameter in params]
            backend.of(*arrays, *grads).sgd(arrays, grads, None, **options)
            return
        # A parameter without a buffer yet takes its first step; usually all do or none does. Where that
        # is left out on the device the buffer stays 0; dampening then counts from the next gradient on.
        rows: dict[bool, list[tuple]] = {True: [], False: []}
        for parameter, grad in zip(params, grads):
            buffer = self.state.get(parameter, {}).get("momentum_buffer")
            fresh = buffer is None
            rows[fresh].append((parameter.data, grad, np.zeros_like(parameter.data) if fresh else buffer, parameter))
        for fresh, some in rows.items():
            if some:
                arrays, grads, buffers, owners = map(list, zip(*some))
                backend.of(*arrays, *grads, *buffers).sgd(arrays, grads, buffers, **options, first=fresh)
                for parameter, buffer in zip(owners, buffers):
                    self.state[parameter] = {"momentum_buffer": buffer}
