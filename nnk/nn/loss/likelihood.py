"""Negative log-likelihoods of targets under distributions whose parameters are predicted."""

from __future__ import annotations

import numbers
from typing import Any, ClassVar

import numpy as np

from nnk import backend
from nnk.nn import arguments
from nnk.nn.loss.base import ElementwiseLoss, Loss, broadcast, check_range, operand

__all__ = ["BernoulliNLLLoss", "GaussianNLLLoss", "LaplaceNLLLoss"]


class _PredictedWidthLoss(Loss):
    """A location and a width are predicted: loss(input, target, width)."""

    kernel: ClassVar[str]
    width: ClassVar[str]  # the name of the argument

    def __init__(self, *, full: bool = False, eps: float = 1e-6, reduction: str = "mean"):
        super().__init__(reduction=reduction)
        self.full = full
        self.eps = arguments.number(eps, "eps")

    def _loss(self, input: Any, target: Any, width: Any) -> Any:
        input = backend.as_array(input)
        backend.of(input)
        target = operand(target, "target", input)
        given = None if isinstance(width, numbers.Real) else operand(width, self.width, input)
        laid = np.full_like(input, width, shape=()) if given is None else self._aligned(given, input.shape)
        # Only a NaN takes the longer way: it hides what else is there from the minimum.
        if laid.size and not backend.on_gpu(laid) and not laid.min() >= 0 and (laid < 0).any():
            raise ValueError(f"{self.width} holds {laid[laid < 0][0]}, expected no negative values")
        broadcast(**{"input": input.shape, "target": target.shape, self.width: laid.shape})
        kernels = backend.of(input, target, given)
        options = {"eps": self.eps, "reduction": self.reduction}
        self.save(input, target, laid, None if given is None else given.shape, options)
        return getattr(kernels, self.kernel)(input, target, laid, full=bool(self.full), **options)

    def _aligned(self, width: Any, shape: tuple[int, ...]) -> Any:
        """Return the widths so that they broadcast with an input of this shape; raise ValueError where they cannot."""
        if width.shape == shape:
            return width
        if width.shape == shape[:-1] and shape:
            return width[..., None]
        differing = [size for size, full in zip(width.shape, shape) if size != full]
        if width.ndim == len(shape) and differing == [1]:
            return width
        raise ValueError(
            f"{self.width} has shape {width.shape}, expected the input's, {shape}, without its last axis or with 1 in "
            "place of one length"
        )

    def backward(self, dy: Any = None, input_grad: bool = True) -> Any:
        """Return (gradient to the input, gradient to the width), only the first where the width was a number."""
        if not input_grad:
            return None
        input, target, width, shape, options = self.saved()
        dx, dwidth = getattr(backend.of(input), f"{self.kernel}_backward")(dy, input, target, width, **options)
        return dx if shape is None else (dx, dwidth.reshape(shape))


class GaussianNLLLoss(_PredictedWidthLoss):
    """loss = (log v + (input - target)² / v) / 2 with v = max(var, eps): Gaussian noise of a predicted variance.

    The negative log-likelihood of the target under a normal distribution with mean `input` and variance v, without the
    constant log(2π) / 2, which `full` adds. `backward` returns (gradient to the input, gradient to var), of the input
    alone when `var` was a number: (input - target) / v and (1 - (input - target)² / v) / (2 v). Where var is below eps,
    its gradient is that at eps.

    `input` has any shape, `target` one that broadcasts with it. `var` is a number, or has the input's shape, that shape
    without its last axis, or with 1 in place of one length. Raises ValueError on a negative var and on shapes that do
    not fit, TypeError on different dtypes.
    Source: Nix and Weigend (1994), "Estimating the mean and variance of the target probability distribution".
    """

    kernel: ClassVar = "gaussian_nll_loss"
    width: ClassVar = "var"

    def forward(self, input: Any, target: Any, var: Any) -> Any:
        """Return the loss."""
        return self._loss(input, target, var)


class LaplaceNLLLoss(_PredictedWidthLoss):
    """loss = log b + |input - target| / b with b = max(scale, eps): Laplace noise of a predicted scale.

    The negative log-likelihood of the target under a Laplace distribution with median `input` and scale b (its mean
    absolute deviation), without the constant log 2, which `full` adds: `GaussianNLLLoss` for noise with heavier tails.
    `backward` returns (gradient to the input, gradient to scale), of the input alone when `scale` was a number:
    sign(input - target) / b, 0 where they are equal, and (1 - |input - target| / b) / b. Where scale is below eps, its
    gradient is that at eps.

    Shapes and errors as for `GaussianNLLLoss`, with scale in place of var. Not in PyTorch.
    Source: the density exp(-|target - input| / b) / (2 b) of Laplace (1774).
    """

    kernel: ClassVar = "laplace_nll_loss"
    width: ClassVar = "scale"

    def forward(self, input: Any, target: Any, scale: Any) -> Any:
        """Return the loss."""
        return self._loss(input, target, scale)


class BernoulliNLLLoss(ElementwiseLoss):
    """loss = -t log max(p, eps) - (1 - t) log max(1 - p, eps) for probabilities p = input and targets t.

    The negative log-likelihood of t under a Bernoulli distribution with probability p: as `GaussianNLLLoss` predicts
    the mean of a real number, this predicts that of a coin. No loss exceeds -log eps, no gradient 1 / eps:
    (1 - t) / max(1 - p, eps) - t / max(p, eps). `BCELoss` is the same with PyTorch's floors in place of eps.

    `input` and `target` have shapes that broadcast and values from 0 to 1; targets may be integers or bools too. Raises
    ValueError on values out of range (NaN included) and on shapes that do not fit, TypeError when a target of floats
    has not the input's dtype. Not in PyTorch. Source: Bernoulli (1713), Ars conjectandi.
    """

    kernel: ClassVar = "bernoulli_nll_loss"

    def __init__(self, *, eps: float = 1e-6, reduction: str = "mean"):
        super().__init__(reduction=reduction)
        self.eps = arguments.number(eps, "eps")

    def operands(self, input: Any, target: Any) -> tuple[Any, ...]:
        """Return the target."""
        target = operand(target, "target", input, labels=True)
        broadcast(input=input.shape, target=target.shape)
        check_range(input, "input")
        check_range(target, "target")
        return (target,)

    def options(self) -> dict[str, Any]:
        """Return eps."""
        return {"eps": self.eps}
