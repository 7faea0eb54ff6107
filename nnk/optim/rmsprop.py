"""RMSprop."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nnk.nn.arguments import only
from nnk.nn.parameter import Parameter
from nnk.optim.optimizer import Optimizer, at_least_zero

__all__ = ["RMSprop"]


class RMSprop(Optimizer):
    """RMSprop: the gradient divided by the root of its running mean square.

        g = grad + weight_decay * p                          (-grad with maximize)
        v = alpha * v + (1 - alpha) * g²
        m = alpha * m + (1 - alpha) * g                      (with centered)
        d = g / (sqrt(v - m²) + eps)                         (sqrt(v) unless centered)
        b = momentum * b + d,   d = b                        (with momentum)
        p = p - lr * d

    Where rounding makes v - m² negative it counts as 0; PyTorch's root is NaN there. `foreach`, `capturable` and
    `differentiable` take their defaults only. Raises ValueError on options out of range.
    Sources: Tieleman and Hinton (2012), Neural networks for machine learning, lecture 6.5; Graves (2013),
    arXiv:1308.0850, eqs. 38 to 45, for the centered form.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.01,
        alpha: float = 0.99,
        eps: float = 1e-08,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ):
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "alpha": alpha,
            "eps": eps,
            "centered": centered,
            "weight_decay": weight_decay,
            "capturable": capturable,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
        }
        super().__init__(params, defaults)

    def _check(self, group: dict[str, Any]) -> None:
        at_least_zero(group, "lr", "momentum", "alpha", "eps", "weight_decay")
        only(group["foreach"], "foreach", None)
        for name in ("capturable", "differentiable"):
            only(group[name], name, False)

    def _update(self, group: dict[str, Any], params: list[Parameter], grads: list[Any], first: dict[str, Any]) -> None:
        options = {name: group[name] for name in ("lr", "alpha", "eps", "momentum")} | first
        buffer = "momentum_buffer" if group["momentum"] > 0 else None
        mean = "grad_avg" if group["centered"] else None
        for _, kernels, lists in self._in_step(params, grads, first, "square_avg", buffer, mean):
            kernels.rmsprop(*lists, **options)
