"""Adagrad."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from nnk.nn.arguments import only
from nnk.nn.parameter import Parameter
from nnk.optim.optimizer import Optimizer, at_least_zero

__all__ = ["Adagrad"]


class Adagrad(Optimizer):
    """Adagrad: each parameter's rate falls with the sum of its squared gradients.

        g = grad + weight_decay * p                          (-grad with maximize)
        s = s + g²                                           (from initial_accumulator_value)
        p = p - lr / (1 + (t - 1) * lr_decay) * g / (sqrt(s) + eps)                 at step t = 1, 2, …

    `foreach`, `differentiable` and `fused` take their defaults only. Raises ValueError on options out of range.
    Source: Duchi, Hazan and Singer (2011), "Adaptive subgradient methods for online learning and stochastic
    optimization", figure 1, with diagonal matrices.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.01,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ):
        defaults = {
            "lr": lr,
            "lr_decay": lr_decay,
            "eps": eps,
            "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
            "fused": fused,
        }
        super().__init__(params, defaults)

    def _check(self, group: dict[str, Any]) -> None:
        at_least_zero(group, "lr", "lr_decay", "weight_decay", "initial_accumulator_value", "eps")
        only(group["foreach"], "foreach", None)
        only(group["differentiable"], "differentiable", False)
        only(group["fused"], "fused", None)

    def add_param_group(self, param_group: Mapping[str, Any]) -> None:
        """Train more parameters; see `Optimizer`. Their state is there before the first step, as in PyTorch."""
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        for parameter in group["params"]:
            total = np.full_like(parameter.data, group["initial_accumulator_value"])
            self.state[parameter] = {"step": 0, "sum": total}

    def _update(self, group: dict[str, Any], params: list[Parameter], grads: list[Any], first: dict[str, Any]) -> None:
        options = {name: group[name] for name in ("lr", "lr_decay", "eps")} | first
        for step, kernels, lists in self._in_step(params, grads, first, "sum"):
            kernels.adagrad(*lists, step=step, **options)
