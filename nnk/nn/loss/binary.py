"""Binary cross-entropy, of probabilities and of logits."""

from __future__ import annotations

from typing import Any, ClassVar

from nnk.nn.loss.base import ElementwiseLoss, check_range, operand

__all__ = ["BCELoss", "BCEWithLogitsLoss"]


class _WeightedBinaryLoss(ElementwiseLoss):
    def operands(self, input: Any, target: Any) -> tuple[Any, ...]:
        """Return the target and the weights."""
        target = operand(target, "target", input, labels=True)
        if target.shape != input.shape:
            raise ValueError(f"target has shape {target.shape}, expected the input's, {input.shape}")
        return target, *(self._weight(name, input) for name in self._buffers)

    def _weight(self, name: str, input: Any) -> Any:
        weight = getattr(self, name)
        if weight is None:
            return None
        fits = weight.ndim <= input.ndim and all(
            size in (1, full) for size, full in zip(reversed(weight.shape), reversed(input.shape))
        )
        if not fits:
            raise ValueError(f"{name} has shape {weight.shape}, which does not broadcast to the input's, {input.shape}")
        return weight.astype(input.dtype, copy=False)


class BCELoss(_WeightedBinaryLoss):
    """loss = -weight (t log p + (1 - t) log(1 - p)) for probabilities p = input and targets t: binary cross-entropy.

    The negative log-likelihood of t under a Bernoulli distribution with probability p. Logarithms are held at -100, so
    that p = 0 and p = 1 give finite losses. Gradient: weight (p - t) / (p (1 - p)), the divisor 1e-12 at least.

    `input` and `target` have one shape of any rank and values from 0 to 1; targets may be integers or bools too.
    `weight`, a buffer of any dtype, broadcasts to that shape. "mean" divides by the number of elements.
    Prefer `BCEWithLogitsLoss`, which loses no digits where p is near 0 or 1.

    Raises ValueError on values out of range (NaN included) and on shapes that do not fit, TypeError when a target of
    floats has not the input's dtype.
    Sources: Good (1952), "Rational decisions"; the floors are torch.nn.BCELoss's.
    """

    kernel: ClassVar = "binary_cross_entropy"

    def __init__(
        self, weight: Any = None, size_average: None = None, reduce: None = None, reduction: str = "mean"
    ):
        super().__init__(size_average, reduce, reduction)
        self.register_buffer("weight", weight)

    def operands(self, input: Any, target: Any) -> tuple[Any, ...]:
        """Return the target and the weight."""
        target, weight = super().operands(input, target)
        check_range(input, "input")
        check_range(target, "target")
        return target, weight


class BCEWithLogitsLoss(_WeightedBinaryLoss):
    """loss = -weight (pos_weight t log σ(x) + (1 - t) log σ(-x)) for logits x = input: sigmoid and BCE in one.

    The negative log-likelihood of t under a Bernoulli distribution with probability σ(x), exact for logits of any size.
    Gradient: weight ((1 - t) σ(x) - pos_weight t σ(-x)).

    `input` and `target` have one shape of any rank; targets may be integers or bools. `weight` and `pos_weight` (above
    1 it counts the positive class more), buffers of any dtype, broadcast to that shape. "mean" divides by the number
    of elements.

    Raises ValueError on shapes that do not fit, TypeError when a target of floats has not the input's dtype.
    Source: Good (1952), "Rational decisions"; torch.nn.BCEWithLogitsLoss (weights).
    """

    kernel: ClassVar = "binary_cross_entropy_with_logits"

    def __init__(
        self,
        weight: Any = None,
        size_average: None = None,
        reduce: None = None,
        reduction: str = "mean",
        pos_weight: Any = None,
    ):
        super().__init__(size_average, reduce, reduction)
        self.register_buffer("weight", weight)
        self.register_buffer("pos_weight", pos_weight)
