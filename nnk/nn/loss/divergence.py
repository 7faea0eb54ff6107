"""The Kullback-Leibler divergence."""

from __future__ import annotations

from typing import Any, ClassVar

from nnk.nn.loss.base import ElementwiseLoss, broadcast, operand

__all__ = ["KLDivLoss"]


class KLDivLoss(ElementwiseLoss):
    """loss = t (log t - x) for log-probabilities x = input and probabilities t = target, where 0 log 0 = 0.

    Summed over a distribution this is the divergence KL(t, e^x): the expected negative log-likelihood under a
    categorical distribution with log-probabilities x, less the least that it can be, t's entropy. With `log_target` the
    target is log t. Gradient: -t.

    `reduction` "batchmean" divides the sum by the length of the first axis, which gives the divergence per
    distribution; "mean" divides by the number of elements. Shapes broadcast.
    Raises ValueError where they do not, TypeError when the target's dtype is not the input's.
    Source: Kullback and Leibler (1951), "On information and sufficiency".
    """

    kernel: ClassVar = "kl_div"
    reductions: ClassVar = ("none", "mean", "batchmean", "sum")

    def __init__(
        self, size_average: None = None, reduce: None = None, reduction: str = "mean", log_target: bool = False
    ):
        super().__init__(size_average, reduce, reduction)
        self.log_target = log_target

    def operands(self, input: Any, target: Any) -> tuple[Any, ...]:
        """Return the target."""
        target = operand(target, "target", input)
        broadcast(input=input.shape, target=target.shape)
        return (target,)

    def options(self) -> dict[str, Any]:
        """Return log_target."""
        return {"log_target": bool(self.log_target)}
