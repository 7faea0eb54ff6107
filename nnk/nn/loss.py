"""Losses: modules that compare an output with a target and start the way back.

``loss = criterion(input, target)``, then ``criterion.backward()`` returns the gradient to the input. `backward` takes
the gradient to the loss, of the loss's shape; None stands for ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nnk import backend
from nnk.nn import arguments
from nnk.nn.module import Module

__all__ = ["CrossEntropyLoss"]


class CrossEntropyLoss(Module):
    """Cross-entropy of class labels and the softmax of logits: the negative log-likelihood of a categorical variable.

        loss_i = -(1 - s) * weight[t] * log p[t] - (s / C) * sum over c of weight[c] * log p[c],  p = softmax(input_i)

    with the label t of element i, C classes and s = label_smoothing. `input` is (C,), (N, C) or (N, C, d1, …), `target`
    () or (N, d1, …) of any integer dtype. Elements whose label is `ignore_index` have loss and gradient 0.
    `reduction` "mean" divides the sum by the sum of weight[t] over the elements not ignored (NaN if there are none),
    "sum" adds up, "none" keeps the shape of `target`. The reduced loss is a 0-d array of the input's dtype.
    `weight` (C,) is a buffer of any dtype. `size_average` and `reduce` take None.

    Raises ValueError when shapes do not fit, a label is out of range, or on options out of range; TypeError on labels
    that are no integers.
    Sources: Bridle (1990); label smoothing, Szegedy et al. (2016), arXiv:1512.00567, section 7.
    """

    def __init__(
        self,
        weight: Any = None,
        size_average: None = None,
        ignore_index: int = -100,
        reduce: None = None,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ):
        arguments.only(size_average, "size_average", None)
        arguments.only(reduce, "reduce", None)
        if reduction not in ("none", "mean", "sum"):
            raise ValueError(f"reduction is {reduction!r}, expected 'none', 'mean' or 'sum'")
        if not 0 <= label_smoothing <= 1:
            raise ValueError(f"label_smoothing is {label_smoothing}, expected 0 <= label_smoothing <= 1")
        self.register_buffer("weight", weight)
        if weight is not None and self.weight.ndim != 1:
            raise ValueError(f"weight has shape {self.weight.shape}, expected (C,)")
        self.ignore_index = arguments.integer(ignore_index, "ignore_index")
        self.reduction = reduction
        self.label_smoothing = label_smoothing

    def forward(self, input: Any, target: Any) -> Any:
        """Return the loss."""
        input, target = backend.as_array(input), backend.as_array(target)
        kernels = backend.of(input)
        self._check(input, target)
        weight = None if self.weight is None else self.weight.astype(input.dtype, copy=False)
        logits, labels = _rows(input), self._labels(target, input.shape[min(input.ndim - 1, 1)])
        options = {
            "ignore_index": self.ignore_index,
            "label_smoothing": self.label_smoothing,
            "reduction": self.reduction,
        }
        loss, lse = kernels.cross_entropy(logits, labels, weight, **options)
        self.save(input.shape, logits, labels, weight, lse, options)
        return loss.reshape(target.shape) if self.reduction == "none" else loss

    def _check(self, input: Any, target: Any) -> None:
        if input.ndim == 0:
            raise ValueError("input has shape (), expected (C,), (N, C) or (N, C, d1, …)")
        classes = input.shape[min(input.ndim - 1, 1)]
        if input.ndim == 1:
            expected = ()
        else:
            expected = (input.shape[0], *input.shape[2:])
        if target.dtype.kind not in "iu":
            raise TypeError(f"target has dtype {target.dtype}, expected class labels of an integer dtype")
        if target.shape != expected:
            raise ValueError(f"target has shape {target.shape}, expected {expected} for the input {input.shape}")
        if self.weight is not None and self.weight.shape != (classes,):
            raise ValueError(f"weight has shape {self.weight.shape}, expected ({classes},), one for each class")

    def _labels(self, target: Any, classes: int) -> Any:
        labels = np.ascontiguousarray(target.reshape(-1), np.int64)
        # Seen as unsigned, negative labels are huge: in the usual case one pass finds all that is out of range.
        if labels.size and labels.view(np.uint64).max() >= classes:
            wrong = ((labels < 0) | (labels >= classes)) & (labels != self.ignore_index)
            if wrong.any():
                raise ValueError(
                    f"target holds the label {target.reshape(-1)[wrong][0]}, expected labels from 0 to {classes - 1}"
                    f" or ignore_index, {self.ignore_index}"
                )
        return labels

    def backward(self, dy: Any = None, input_grad: bool = True) -> Any:
        """Return the gradient to the input, for the gradient `dy` to the loss (None: ones)."""
        if not input_grad:
            return None
        shape, logits, labels, weight, lse, options = self.saved()
        dy = dy.reshape(-1) if self.reduction == "none" else dy
        dx = backend.of(logits).cross_entropy_backward(dy, logits, labels, weight, lse, **options)
        return _unrows(dx, shape)

    def extra_repr(self) -> str:
        """Return the arguments that `repr` shows."""
        return ""


def _rows(x: Any) -> Any:
    """Return (N, C, d1, …) or (C,) as (M, C), one row for each label; of channels-last images without a copy."""
    if x.ndim == 1:
        return x[None]
    if x.ndim == 2:
        return x
    last = np.moveaxis(x, 1, -1)
    return last.reshape(int(np.prod(last.shape[:-1])), x.shape[1])


def _unrows(rows: Any, shape: tuple[int, ...]) -> Any:
    if len(shape) <= 2:
        return rows.reshape(shape)
    return np.moveaxis(rows.reshape(shape[0], *shape[2:], shape[1]), -1, 1)
