"""Losses of the difference between an output and a real-valued target."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

from nnk.nn import arguments
from nnk.nn.loss.base import ElementwiseLoss, broadcast, operand

__all__ = ["HuberLoss", "L1Loss", "MSELoss", "SmoothL1Loss"]


class _RegressionLoss(ElementwiseLoss):
    def operands(self, input: Any, target: Any) -> tuple[Any, ...]:
        """Return the target."""
        target = operand(target, "target", input)
        if target.shape != input.shape:
            shape = broadcast(input=input.shape, target=target.shape)
            warnings.warn(
                f"target has shape {target.shape} and the input {input.shape}: both are broadcast to {shape}, which is "
                "rarely meant",
                stacklevel=2,
            )
        return (target,)


class MSELoss(_RegressionLoss):
    """loss = (input - target)², by "mean" their mean, by "sum" their sum: squared error.

    Up to a constant and a factor the negative log-likelihood of target = input + Gaussian noise of one variance.
    Gradient: 2 (input - target).

    `input` and `target` have one shape of any rank. Shapes that broadcast are taken too, with a warning, since that is
    rarely meant. Raises ValueError where they do not, TypeError when the target's dtype is not the input's.
    Source: Gauss (1809), Theoria motus corporum coelestium, II.3.
    """

    kernel: ClassVar = "mse_loss"


class L1Loss(_RegressionLoss):
    """loss = |input - target|, by "mean" their mean, by "sum" their sum: absolute error.

    Up to a constant and a factor the negative log-likelihood of target = input + Laplace noise of one scale.
    Gradient: the sign of input - target, 0 where they are equal.

    Shapes and errors as for `MSELoss`. Source: Laplace (1774).
    """

    kernel: ClassVar = "l1_loss"


class SmoothL1Loss(_RegressionLoss):
    """With d = input - target: loss = d² / (2 beta) where |d| < beta, else |d| - beta / 2.

    `HuberLoss` with delta = beta, divided by beta; `L1Loss` for beta = 0. Up to a constant and a factor the negative
    log-likelihood of noise that is Gaussian near 0 and falls like Laplace's in the tails.
    Gradient: d / beta where |d| < beta, else the sign of d.

    Shapes and errors as for `MSELoss`; ValueError on beta < 0. Source: Girshick (2015), arXiv:1504.08083, eq. 3.
    """

    kernel: ClassVar = "smooth_l1_loss"

    def __init__(self, size_average: None = None, reduce: None = None, reduction: str = "mean", beta: float = 1.0):
        super().__init__(size_average, reduce, reduction)
        if not arguments.number(beta, "beta") >= 0:
            raise ValueError(f"beta is {beta}, expected at least 0")
        self.beta = float(beta)

    def options(self) -> dict[str, Any]:
        """Return beta."""
        return {"beta": self.beta}


class HuberLoss(_RegressionLoss):
    """With d = input - target: loss = d² / 2 where |d| ≤ delta, else delta (|d| - delta / 2).

    Up to a constant the negative log-likelihood of Huber's least favourable noise: Gaussian of variance 1 near 0, with
    tails that fall like Laplace's. Gradient: d, held between -delta and delta.

    Shapes and errors as for `MSELoss`; ValueError unless delta > 0.
    Source: Huber (1964), "Robust estimation of a location parameter".
    """

    kernel: ClassVar = "huber_loss"

    def __init__(self, reduction: str = "mean", delta: float = 1.0):
        super().__init__(reduction=reduction)
        if not arguments.number(delta, "delta") > 0:
            raise ValueError(f"delta is {delta}, expected more than 0")
        self.delta = float(delta)

    def options(self) -> dict[str, Any]:
        """Return delta."""
        return {"delta": self.delta}
