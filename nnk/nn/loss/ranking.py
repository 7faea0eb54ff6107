"""The margin ranking loss."""

from __future__ import annotations

from typing import Any

from nnk import backend
from nnk.nn import arguments
from nnk.nn.loss.base import Loss, broadcast, operand

__all__ = ["MarginRankingLoss"]


class MarginRankingLoss(Loss):
    """loss = max(0, margin - target (input1 - input2)): a pair of scores in the right order costs nothing.

    `target` is 1 where input1 should be the larger, -1 where input2; integers will do. A hinge on the difference of the
    scores, no negative log-likelihood. `backward` returns (gradient to input1, gradient to input2): -target and target
    where margin - target (input1 - input2) ≥ 0, else 0.

    The three have the same number of axes and shapes that broadcast. Raises ValueError where they do not fit,
    TypeError on different dtypes.
    Source: Herbrich, Graepel and Obermayer (2000), "Large margin rank boundaries for ordinal regression".
    """

    def __init__(
        self, margin: float = 0.0, size_average: None = None, reduce: None = None, reduction: str = "mean"
    ):
        super().__init__(size_average, reduce, reduction)
        self.margin = arguments.number(margin, "margin")

    def forward(self, input1: Any, input2: Any, target: Any) -> Any:
        """Return the loss."""
        input1 = backend.as_array(input1)
        backend.of(input1)
        input2, target = operand(input2, "input2", input1), operand(target, "target", input1, labels=True)
        if not input1.ndim == input2.ndim == target.ndim:
            raise ValueError(
                f"input1 has shape {input1.shape}, input2 {input2.shape} and target {target.shape}, expected as many "
                "axes of each"
            )
        broadcast(input1=input1.shape, input2=input2.shape, target=target.shape)
        options = {"margin": self.margin, "reduction": self.reduction}
        self.save(input1, input2, target, options)
        return backend.of(input1, input2, target).margin_ranking_loss(input1, input2, target, **options)

    def backward(self, dy: Any = None, input_grad: bool = True) -> Any:
        """Return the gradients to both inputs, for the gradient `dy` to the loss (None: ones)."""
        if not input_grad:
            return None
        input1, input2, target, options = self.saved()
        return backend.of(input1).margin_ranking_loss_backward(dy, input1, input2, target, **options)
