"""The focal loss."""

from __future__ import annotations

import numbers
from typing import Any

from nnk import backend
from nnk.nn import arguments
from nnk.nn.loss.base import Loss, operand
from nnk.nn.loss.categorical import as_labels, as_rows, class_weight, from_rows, marked

__all__ = ["FocalLoss"]


class FocalLoss(Loss):
    """loss = -α (1 - p)^gamma log p, p the probability of the truth: cross-entropy that counts easy elements less.

    The shape of the target says which of the two it is:

    - binary, for a target of the input's shape, any rank, that holds 0 and 1 (of any dtype): `input` is logits, p is
      σ(input) where the target is 1 and σ(-input) where it is 0. `alpha`, a number from 0 to 1, is α of the targets 1,
      and those of 0 have 1 - alpha.
    - multi-class, for an `input` (C,), (N, C) or (N, C, d1, …) of logits and a target () or (N, d1, …) of class labels:
      p is the label's part of softmax(input). `alpha` (C,), a buffer of any dtype, gives the label's α.

    Without alpha, α is 1. "mean" divides by the number of losses, whatever alpha. With gamma = 0 this is the negative
    log-likelihood of a Bernoulli or categorical variable (`BCEWithLogitsLoss`, `CrossEntropyLoss`); with another gamma
    it is none of any distribution. Not in PyTorch.

    Raises ValueError on gamma < 0, on alpha out of range or of the other kind, on labels out of range and on shapes
    that do not fit; TypeError on labels of another kind.
    Source: Lin et al. (2017), "Focal loss for dense object detection", arXiv:1708.02002, eq. 5.
    """

    def __init__(self, gamma: float = 2, alpha: Any = None, reduction: str = "mean"):
        super().__init__(reduction=reduction)
        if not arguments.number(gamma, "gamma") >= 0:
            raise ValueError(f"gamma is {gamma}, expected at least 0")
        self.gamma = gamma
        if isinstance(alpha, numbers.Real):
            if not 0 <= alpha <= 1:
                raise ValueError(f"alpha is {alpha}, expected 0 <= alpha <= 1, or an array (C,)")
            self.alpha = float(alpha)
        else:
            self.register_buffer("alpha", alpha)
            if alpha is not None and self.alpha.ndim != 1:
                raise ValueError(f"alpha has shape {self.alpha.shape}, expected a number or an array (C,)")

    def forward(self, input: Any, target: Any) -> Any:
        """Return the loss."""
        input, target = backend.as_array(input), backend.as_array(target)
        backend.of(input)
        options = {"gamma": float(self.gamma), "reduction": self.reduction}
        if target.shape == input.shape:
            target, alpha = self._binary(input, target)
            options["alpha"] = alpha
            self.save(input.shape, "sigmoid", (input, target), options)
            return backend.of(input, target).sigmoid_focal_loss(input, target, **options)
        labels, wrong, alpha = self._multi_class(input, target)
        operands = (as_rows(input), labels, alpha)
        self.save(input.shape, "softmax", operands, options)
        loss = marked(backend.of(input).softmax_focal_loss(*operands, **options), wrong)
        return loss.reshape(target.shape) if self.reduction == "none" else loss

    def _binary(self, input: Any, target: Any) -> tuple[Any, float | None]:
        if not (self.alpha is None or isinstance(self.alpha, float)):
            raise ValueError(f"alpha has shape {self.alpha.shape}, expected a number for binary targets")
        target = operand(target, "target", input, labels=True)
        wrong = (target != 0) & (target != 1)
        if not backend.on_gpu(target) and wrong.any():
            raise ValueError(f"target holds {target[wrong][0]}, expected 0 and 1 in a target of the input's shape")
        return target, self.alpha

    def _multi_class(self, input: Any, target: Any) -> tuple[Any, Any, Any]:
        labels, wrong = as_labels(target, input)
        if isinstance(self.alpha, float):
            raise ValueError(f"alpha is {self.alpha}, expected an array, one value for each class")
        return labels, wrong, class_weight(self.alpha, "alpha", input)

    def backward(self, dy: Any = None, input_grad: bool = True) -> Any:
        """Return the gradient to the input, for the gradient `dy` to the loss (None: ones)."""
        if not input_grad:
            return None
        shape, kind, operands, options = self.saved()
        kernels = backend.of(operands[0])
        if kind == "sigmoid":
            return kernels.sigmoid_focal_loss_backward(dy, *operands, **options)
        dy = dy.reshape(-1) if self.reduction == "none" else dy
        return from_rows(kernels.softmax_focal_loss_backward(dy, *operands, **options), shape)
