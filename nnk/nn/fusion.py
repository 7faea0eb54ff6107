"""Fusion: a batch norm or a convolution does the ReLU behind it, and the residual sum between them, in its own pass.

One after the other, each reads and writes all activations anew. Done at once they cost what batch norm costs alone
(`kernels/reference/batchnorm_relu.py`), and behind a convolution hardly anything. Only that work moves. Every module is
called as ever, in the same order, and leaves its own forward for backward; results are equal to rounding.

A `Sequential` looks at its modules before it calls them (`steps`). Where one ends with a batch norm and the next begins
with a ReLU, it calls the two with an argument more:

- ``module(x, tail=tail)`` finds its way to the batch norm: `Sequential` hands it to its last module, `Residual` to its
  body. In forward ``tail(shape)`` returns what to add to the normalised `x`, of that shape, or None, and whether a ReLU
  comes then; in backward ``tail(gradient)`` takes the gradient to what was added. A `Residual` puts a tail of its own
  in the place of the one it got.
- ``module(x, rectified=True)`` finds its way to the ReLU: `Sequential` hands it to its first module. The input has been
  rectified, so it is the output; in backward, dy goes back as it is, for the batch norm to mask.

In

    Sequential(Residual(Sequential(conv, norm1, relu1, Sequential(conv, norm2))), relu2)

the outer `Sequential` calls the block with a tail and relu2 with ``rectified=True``. The block gives its body a tail
that returns the block's input, the body passes that on to its last module, and this to norm2, which normalises, asks
the tail, adds and rectifies. The body finds norm1 and relu1 by itself.

A convolution does what is behind it before it stores its outputs, and backward knows nothing of it (`ahead`, `adds`):

- ``convolution(x, tail=tail)``, where a ReLU is behind it, or a sum, or both, adds and rectifies as a batch norm does,
  and is found like one. The ReLU keeps its output and masks dy itself.
- ``convolution(x, statistics=given)`` and ``norm(x, statistics=given)``, where a batch norm by the batch's statistics
  comes next: the one leaves them in the list `given`, the other takes them and need not read `x` for them. They are
  None where that would save nothing, as on the CPU.
- ``convolution(x, norm=norm)`` and ``norm(x, folded=True)``, where nothing is saved for backward and the batch norm
  behind uses its running statistics: the one multiplies its filters by the norm's scale and adds the norm's shift,
  which are computed in every call from the numbers that the norm holds then; the other gets what it would have
  returned, and returns it. The norm's tail becomes the convolution's.

Not so before a `BatchNorm1d`: behind a convolution of one image (C, H, W) its channels are the axis H.

What was arranged in forward is saved for backward. A module whose backward is called without the arguments, by hand,
does its own work in full, whatever its forward left to another.

Nothing is kept between calls and so nothing goes stale; looking takes some microseconds for each ReLU. Identities do
not count. Nothing is fused

- inside `nnk.nn.watch`, as in `first_nonfinite` and `summary`: somebody looks at what each module makes;
- in modules with a forward or backward of their own (`Module.fuses_as` is gone then), in a class or on the instance;
- if the shortcut uses the same batch norm or convolution too, whose forwards would then come in another order.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from nnk.nn import pending
from nnk.nn.module import Module

Steps = list[tuple[Module, dict[str, Any]]]


def alone(x: Any) -> tuple[None, bool]:
    """Be the tail of a ReLU without a sum."""
    return None, True


def steps(modules: list[Module]) -> Steps:
    """Return the modules, each with the arguments, beyond the input, to call its forward and backward with."""
    planned: Steps = [(module, {}) for module in modules]
    if pending.thread.watcher is None:
        for (module, arguments), (following, its_arguments) in pairwise(_working(planned)):
            if _begins_with_relu(following) and _at_end(module, "norm") is not None:
                arguments["tail"] = alone
                its_arguments["rectified"] = True
    return planned


def between(planned: Steps, rectified: bool, tail: Any) -> Steps:
    """Return the steps of a `Sequential` that was itself called with these arguments."""
    if rectified or tail is not None:
        planned = _copied(planned)
        working = _working(planned)
        if rectified:
            working[0][1]["rectified"] = True
        if tail is not None:
            working[-1][1]["tail"] = tail
    return planned


def ahead(planned: Steps) -> Steps:
    """Return the steps of a forward: in them convolutions do what is behind them."""
    if pending.thread.watcher is not None:
        return planned
    planned = _copied(planned)
    for (module, arguments), (following, its_arguments) in pairwise(_working(planned)):
        if role(module) == "conv" and role(following) == "norm" and following.takes_images:
            if following.by_batch:
                arguments["statistics"] = its_arguments["statistics"] = []
            elif not pending.thread.saving and following.num_features == module.out_channels:
                arguments["norm"], arguments["tail"] = following, its_arguments.pop("tail", None)
                its_arguments["folded"] = True
        elif _begins_with_relu(following) and "rectified" not in its_arguments and _at_end(module, "conv") is not None:
            arguments["tail"] = alone
            its_arguments["rectified"] = True
    return planned


def adds(residual: Module) -> bool:
    """Return whether a convolution, the last of its body, does the sum of a `Residual` that nothing else does."""
    return pending.thread.watcher is None and _at_end(residual, "conv") is not None


def role(module: Any) -> str | None:
    """Return the part that `module` plays here; None where it has a forward or a backward of its own."""
    part = getattr(module, "fuses_as", None)
    if part is not None and ("forward" in module.__dict__ or "backward" in module.__dict__):
        return None
    return part


def _copied(planned: Steps) -> Steps:
    return [(module, dict(arguments)) for module, arguments in planned]


def _working(planned: Steps) -> Steps:
    return [step for step in planned if role(step[0]) != "identity"]


def _in_order(modules: Iterable[Module]) -> list[Module]:
    return [module for module in modules if role(module) != "identity"]


def _begins_with_relu(module: Module) -> bool:
    part = role(module)
    if part == "sequential":
        return any(_begins_with_relu(first) for first in _in_order(module)[:1])
    return part == "relu"


def _at_end(module: Module, end: str, sums: int = 1) -> Module | None:
    """Return the batch norm or convolution (`end`) whose output is that of `module`, but for at most so many sums."""
    part = role(module)
    if part == end:
        return module
    if part == "sequential":
        modules = _in_order(module)
        return _at_end(modules[-1], end, sums) if modules else None
    if part == "residual" and sums:
        last = _at_end(module.body, end, sums - 1)
        shortcut = module.shortcut
        shared = isinstance(shortcut, Module) and any(inner is last for inner in shortcut.modules())
        return None if shared else last
    return None
