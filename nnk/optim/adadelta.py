"""Adadelta."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nnk.nn.arguments import number, only
from nnk.nn.parameter import Parameter
from nnk.optim.optimizer import Optimizer, at_least_zero

__all__ = ["Adadelta"]


class Adadelta(Optimizer):
    """Adadelta: steps as large as the steps before them, so that the rate may stay at 1.

        g = grad + weight_decay * p                          (-grad with maximize)
        v = rho * v + (1 - rho) * g²
        d = sqrt(u + eps) / sqrt(v + eps) * g
        u = rho * u + (1 - rho) * d²
        p = p - lr * d

    `foreach`, `capturable` and `differentiable` take their defaults only. Raises ValueError on options out of range.
    Source: Zeiler (2012), arXiv:1212.5701, algorithm 1.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1.0,
        rho: float = 0.9,
        eps: float = 1e-06,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        capturable: bool = False,
        maximize: bool = False,
        differentiable: bool = False,
    ):
        defaults = {
            "lr": lr,
            "rho": rho,
            "eps": eps,
            "weight_decay": weight_decay,
            "maximize": maximize,
            "capturable": capturable,
            "foreach": foreach,
            "differentiable": differentiable,
        }
        super().__init__(params, defaults)

    def _check(self, group: dict[str, Any]) -> None:
        at_least_zero(group, "lr", "eps", "weight_decay")
        if not 0 <= number(group["rho"], "rho") <= 1:
            raise ValueError(f"rho is {group['rho']}, expected 0 <= rho <= 1")
        only(group["foreach"], "foreach", None)
        for name in ("capturable", "differentiable"):
            only(group[name], name, False)

    def _update(self, group: dict[str, Any], params: list[Parameter], grads: list[Any], first: dict[str, Any]) -> None:
        options = {name: group[name] for name in ("lr", "rho", "eps")} | first
        for _, kernels, lists in self._in_step(params, grads, first, "square_avg", "acc_delta"):
            kernels.adadelta(*lists, **options)
