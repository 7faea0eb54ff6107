"""Adam and AdamW."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from nnk.nn.arguments import number, only
from nnk.nn.parameter import Parameter
from nnk.optim.optimizer import Optimizer, at_least_zero

__all__ = ["Adam", "AdamW"]


class Adam(Optimizer):
    """Adam: steps scaled by running means of the gradient and of its square.

        g = grad + weight_decay * p                          (-grad with maximize)
        m = beta1 * m + (1 - beta1) * g,   v = beta2 * v + (1 - beta2) * g²
        p = p - lr / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + eps)        at step t = 1, 2, …

    With ``amsgrad=True`` the largest v so far stands in the place of v in the last line. With
    ``decoupled_weight_decay=True`` it is `AdamW`. `foreach`, `capturable`, `differentiable` and `fused` take their
    defaults only. Raises ValueError on options out of range.
    Sources: Kingma and Ba (2015), arXiv:1412.6980, algorithm 1; Reddi, Kale and Kumar (2018), arXiv:1904.09237,
    algorithm 2, for AMSGrad.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.001,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-08,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
    ):
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "maximize": maximize,
            "foreach": foreach,
            "capturable": capturable,
            "differentiable": differentiable,
            "fused": fused,
            "decoupled_weight_decay": decoupled_weight_decay,
        }
        super().__init__(params, defaults)

    def _check(self, group: dict[str, Any]) -> None:
        at_least_zero(group, "lr", "eps", "weight_decay")
        betas = group["betas"]
        if np.shape(betas) != (2,) or not all(0 <= number(beta, "betas") < 1 for beta in betas):
            raise ValueError(f"betas is {betas}, expected two numbers, 0 <= beta < 1")
        only(group["foreach"], "foreach", None)
        only(group["fused"], "fused", None)
        for name in ("capturable", "differentiable"):
            only(group[name], name, False)

    def _update(self, group: dict[str, Any], params: list[Parameter], grads: list[Any], first: dict[str, Any]) -> None:
        beta1, beta2 = group["betas"]
        options = {"lr": group["lr"], "beta1": beta1, "beta2": beta2, "eps": group["eps"]} | first
        largest = "max_exp_avg_sq" if group["amsgrad"] else None
        for step, kernels, lists in self._in_step(params, grads, first, "exp_avg", "exp_avg_sq", largest):
            kernel = kernels.adamw if group["decoupled_weight_decay"] else kernels.adam
            kernel(*lists, step=step, **options)


class AdamW(Adam):
    """Adam with decoupled weight decay: each step first shrinks p to (1 - lr * weight_decay) * p, g = grad alone.

    Otherwise as `Adam`, with ``weight_decay=0.01`` by default.
    Source: Loshchilov and Hutter (2019), arXiv:1711.05101, algorithm 2.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.001,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-08,
        weight_decay: float = 0.01,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ):
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            foreach=foreach,
            maximize=maximize,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
            decoupled_weight_decay=True,
        )
