"""Losses of class labels or class probabilities: cross-entropy of logits, NLL of log-probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnk import backend
from nnk.nn import arguments
from nnk.nn.loss.base import Loss, operand

__all__ = ["CrossEntropyLoss", "NLLLoss", "as_labels", "as_rows", "class_count", "class_weight", "from_rows", "marked"]


class NLLLoss(Loss):
    """loss_i = -weight[t] * input_i[t] for log-probabilities `input` and the class label t of element i.

    The negative log-likelihood of the label under a categorical distribution: with `LogSoftmax` before it the same as
    `CrossEntropyLoss`. `input` is (C,), (N, C) or (N, C, d1, …), `target` () or (N, d1, …) of any integer dtype.
    Elements whose label is `ignore_index` have loss and gradient 0. "mean" divides the sum by the sum of weight[t] over
    the elements not ignored (NaN if there are none), "none" keeps the shape of `target`. `weight` (C,) is a buffer of
    any dtype.

    Raises ValueError when shapes do not fit or a label is out of range; TypeError on labels that are no integers.
    Source: torch.nn.NLLLoss.
    """

    def __init__(
        self,
        weight: Any = None,
        size_average: None = None,
        ignore_index: int = -100,
        reduce: None = None,
        reduction: str = "mean",
    ):
        super().__init__(size_average, reduce, reduction)
        self.register_buffer("weight", weight)
        _check_weight(self.weight)
        self.ignore_index = arguments.integer(ignore_index, "ignore_index")

    def forward(self, input: Any, target: Any) -> Any:
        """Return the loss."""
        input, target = backend.as_array(input), backend.as_array(target)
        kernels = backend.of(input)
        labels, wrong = as_labels(target, input, self.ignore_index)
        weight = class_weight(self.weight, "weight", input)
        options = {"ignore_index": self.ignore_index, "reduction": self.reduction}
        rows = as_rows(input)
        loss, total = kernels.nll_loss(rows, labels, weight, **options)
        loss = marked(loss, wrong)
        self.save(input.shape, rows, labels, weight, total, options)
        return loss.reshape(target.shape) if self.reduction == "none" else loss

    def backward(self, dy: Any = None, input_grad: bool = True) -> Any:
        """Return the gradient to the input, for the gradient `dy` to the loss (None: ones)."""
        if not input_grad:
            return None
        shape, rows, labels, weight, total, options = self.saved()
        dy = dy.reshape(-1) if self.reduction == "none" else dy
        return from_rows(backend.of(rows).nll_loss_backward(dy, rows, labels, weight, total, **options), shape)


class CrossEntropyLoss(Loss):
    """Cross-entropy of a target and the softmax of logits: the negative log-likelihood of a categorical variable.

        loss_i = -(1 - s) * weight[t] * log p[t] - (s / C) * sum over c of weight[c] * log p[c],  p = softmax(input_i)

    with the label t of element i, C classes and s = label_smoothing. `input` is (C,), (N, C) or (N, C, d1, …), `target`
    () or (N, d1, …) of any integer dtype. Elements whose label is `ignore_index` have loss and gradient 0.
    `reduction` "mean" divides the sum by the sum of weight[t] over the elements not ignored (NaN if there are none),
    "sum" adds up, "none" keeps the shape of `target`. The reduced loss is a 0-d array of the input's dtype.
    `weight` (C,) is a buffer of any dtype. `size_average` and `reduce` take None.

    A target of the input's shape and dtype holds class probabilities q instead:

        loss_i = -sum over c of weight[c] * ((1 - s) * q[c] + s / C) * log p[c]

    "mean" then divides by the number of elements i, and no element is ignored: an `ignore_index` of 0 or more raises.

    Raises ValueError when shapes do not fit, a label is out of range, or on options out of range; TypeError on labels
    that are no integers and on probabilities of another dtype than the input's.
    On a GPU labels are not waited for: one out of range makes the loss NaN.
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
        super().__init__(size_average, reduce, reduction)
        if not 0 <= arguments.number(label_smoothing, "label_smoothing") <= 1:
            raise ValueError(f"label_smoothing is {label_smoothing}, expected 0 <= label_smoothing <= 1")
        self.register_buffer("weight", weight)
        _check_weight(self.weight)
        self.ignore_index = arguments.integer(ignore_index, "ignore_index")
        self.label_smoothing = label_smoothing

    def forward(self, input: Any, target: Any) -> Any:
        """Return the loss."""
        input, target = backend.as_array(input), backend.as_array(target)
        kernels = backend.of(input)
        soft = input.ndim > 0 and target.shape == input.shape
        weight = class_weight(self.weight, "weight", input)
        logits = as_rows(input)
        options = {"label_smoothing": self.label_smoothing, "reduction": self.reduction}
        if soft:
            rows = as_rows(self._probabilities(target, input))
            loss = kernels.soft_cross_entropy(logits, rows, weight, **options)
            self.save(input.shape, logits, rows, weight, None, options)
            shape = _label_shape(input)
        else:
            labels, wrong = as_labels(target, input, self.ignore_index)
            options["ignore_index"] = self.ignore_index
            loss, lse = kernels.cross_entropy(logits, labels, weight, **options)
            loss = marked(loss, wrong)
            self.save(input.shape, logits, labels, weight, lse, options)
            shape = target.shape
        return loss.reshape(shape) if self.reduction == "none" else loss

    def _probabilities(self, target: Any, input: Any) -> Any:
        if self.ignore_index >= 0:
            raise ValueError(
                f"ignore_index is {self.ignore_index}, expected less than 0 for targets that are probabilities"
            )
        return operand(target, "target", input)

    def backward(self, dy: Any = None, input_grad: bool = True) -> Any:
        """Return the gradient to the input, for the gradient `dy` to the loss (None: ones)."""
        if not input_grad:
            return None
        shape, logits, target, weight, lse, options = self.saved()
        dy = dy.reshape(-1) if self.reduction == "none" else dy
        kernels = backend.of(logits)
        if lse is None:
            dx = kernels.soft_cross_entropy_backward(dy, logits, target, weight, **options)
        else:
            dx = kernels.cross_entropy_backward(dy, logits, target, weight, lse, **options)
        return from_rows(dx, shape)


def class_count(input: Any) -> int:
    """Return C of an input (C,), (N, C) or (N, C, d1, …); raise ValueError where there is none."""
    if input.ndim == 0:
        raise ValueError("input has shape (), expected (C,), (N, C) or (N, C, d1, …)")
    classes = input.shape[min(input.ndim - 1, 1)]
    if classes == 0:
        raise ValueError(f"input has shape {input.shape}, expected one class at least")
    return classes


def _label_shape(input: Any) -> tuple[int, ...]:
    return () if input.ndim == 1 else (input.shape[0], *input.shape[2:])


def as_labels(target: Any, input: Any, ignore_index: int | None = None) -> tuple[Any, Any]:
    """Return the class labels of the input's elements as int64, in one row, and which of them name no class.

    Raises TypeError unless they are integers, ValueError on another shape than the input asks for and on labels that
    name no class. On a GPU nobody waits for the labels to be seen: those are held at the nearest class, so that kernels
    stay in their row, and the loss is `marked`. On a CPU the second array is None.
    """
    classes, expected = class_count(input), _label_shape(input)
    if target.dtype.kind not in "iu":
        raise TypeError(f"target has dtype {target.dtype}, expected class labels of an integer dtype")
    if target.shape != expected:
        raise ValueError(f"target has shape {target.shape}, expected {expected} for the input {input.shape}")
    labels = backend.contiguous(target.reshape(-1).astype(np.int64, copy=False))
    if backend.on_gpu(labels):
        within = labels.clip(0, classes - 1)
        wrong = within != labels
        if ignore_index is not None:
            within, wrong = np.where(labels == ignore_index, labels, within), wrong & (labels != ignore_index)
        return within, wrong
    # Seen as unsigned, negative labels are huge: in the usual case one pass finds all that is out of range.
    if labels.size and labels.view(np.uint64).max() >= classes:
        wrong = (labels < 0) | (labels >= classes)
        if ignore_index is not None:
            wrong &= labels != ignore_index
        if wrong.any():
            expected = f"labels from 0 to {classes - 1}"
            if ignore_index is not None:
                expected += f" or ignore_index, {ignore_index}"
            raise ValueError(f"target holds the label {target.reshape(-1)[wrong][0]}, expected {expected}")
    return labels, None


def marked(loss: Any, wrong: Any) -> Any:
    """Return the loss with NaN for labels that name no class, as `as_labels` found them."""
    if wrong is None:
        return loss
    return np.where(wrong if loss.ndim else wrong.any(), loss.dtype.type(np.nan), loss)


def _check_weight(weight: Any) -> None:
    if weight is not None and weight.ndim != 1:
        raise ValueError(f"weight has shape {weight.shape}, expected (C,)")


def class_weight(weight: Any, name: str, input: Any) -> Any:
    """Return the weights of the classes in the input's dtype, or None; raise ValueError on another number of them."""
    classes = class_count(input)
    if weight is None:
        return None
    if weight.shape != (classes,):
        raise ValueError(f"{name} has shape {weight.shape}, expected ({classes},), one for each class")
    return weight.astype(input.dtype, copy=False)


def as_rows(x: Any) -> Any:
    """Return (N, C, d1, …) or (C,) as (M, C), one row for each label; of channels-last images without a copy."""
    if x.ndim == 1:
        return x[None]
    if x.ndim == 2:
        return x
    last = np.moveaxis(x, 1, -1)
    return last.reshape(int(np.prod(last.shape[:-1])), x.shape[1])


def from_rows(rows: Any, shape: tuple[int, ...]) -> Any:
    """Return rows as an array of the shape that `as_rows` was given."""
    if len(shape) <= 2:
        return rows.reshape(shape)
    return np.moveaxis(rows.reshape(shape[0], *shape[2:], shape[1]), -1, 1)
