"""Fusion: a batch norm does the ReLU behind it, and the residual sum between them, in its own pass over memory.

In inference a convolution does both before it stores its outputs, and they cost nothing.

One after the other, each of the three reads and writes all activations anew. Done at once they cost what batch norm
costs alone (`kernels/reference/batchnorm_relu.py`). Only that work moves. Every module is called as ever, in the same
order, and leaves its own forward for backward; results are equal to rounding.

A `Sequential` looks at its modules before it calls them (`steps`). Where one ends with a batch norm and the next begins
with a ReLU, it calls the two with an argument more:

- ``module(x, tail=tail)`` finds its way to the batch norm: `Sequential` hands it to its last module, `Residual` to its
  body. In forward ``tail(x)`` returns what to add to the normalised `x` before the ReLU, or None; in backward
  ``tail(gradient)`` takes the gradient to that. A `Residual` puts a tail of its own in the place of the one it got.
- ``module(x, rectified=True)`` finds its way to the ReLU: `Sequential` hands it to its first module. The input has been
  rectified, so it is the output; in backward, dy goes back as it is, for the batch norm to mask.

In

    Sequential(Residual(Sequential(conv, norm1, relu1, Sequential(conv, norm2))), relu2)

the outer `Sequential` calls the block with a tail and relu2 with ``rectified=True``. The block gives its body a tail
that returns the block's input, the body passes that on to its last module, and this to norm2, which normalises, asks
the tail, adds and rectifies. The body finds norm1 and relu1 by itself.

Where nothing is saved for backward, a convolution does the batch norm behind it, if that uses its running statistics
and adds no residual, and the ReLU behind that, or behind itself (`folded`):

- ``convolution(x, norm=norm, rectify=True)`` multiplies its filters by the norm's scale and adds the norm's shift;
- ``norm(x, folded=True)`` gets what it would have returned, and returns it; then so does the ReLU, as above.

Scale and shift are computed in every call, from the numbers that the norm holds then.

What was arranged in forward is saved for backward. A module whose backward is called without the arguments, by hand,
does its own work in full, whatever its forward left to another.

Nothing is kept between calls and so nothing goes stale; looking takes some microseconds for each ReLU. Nothing is fused

- inside `nnk.nn.watch`, as in `first_nonfinite` and `summary`: somebody looks at what each module makes;
- in modules with a forward or backward of their own (`Module.fuses_as` is gone then), in a class or on the instance;
- if the shortcut uses the same batch norm too, whose running statistics would then move in another order.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from nnk.nn import pending
from nnk.nn.module import Module

Steps = list[tuple[Module, dict[str, Any]]]


def alone(x: Any) -> None:
    """Be the tail of a ReLU without a sum."""


def steps(modules: list[Module]) -> Steps:
    """Return the modules, each with the arguments, beyond the input, to call its forward and backward with."""
    planned: Steps = [(module, {}) for module in modules]
    if pending.thread.watcher is None:
        for (module, arguments), (following, its_arguments) in pairwise(planned):
            if _begins_with_relu(following) and _norm_at_end(module) is not None:
                arguments["tail"] = alone
                its_arguments["rectified"] = True
    return planned


def between(planned: Steps, rectified: bool, tail: Any) -> Steps:
    """Return the steps of a `Sequential` that was itself called with these arguments."""
    if rectified or tail is not None:
        planned = [(module, dict(arguments)) for module, arguments in planned]
        if rectified:
            planned[0][1]["rectified"] = True
        if tail is not None:
            planned[-1][1]["tail"] = tail
    return planned


def folded(planned: Steps) -> Steps:
    """Return the steps of a forward that saves nothing: convolutions do the batch norm and the ReLU behind them."""
    if pending.thread.saving or pending.thread.watcher is not None:
        return planned
    working = [step for step in planned if role(step[0]) != "identity"]
    for i, (conv, arguments) in enumerate(working):
        if role(conv) != "conv":
            continue
        behind = working[i + 1 : i + 3]
        if behind and _can_fold(conv, behind[0][0]) and behind[0][1].get("tail") in (None, alone):
            norm, its_arguments = behind.pop(0)
            arguments["norm"], its_arguments["folded"] = norm, True
            arguments["rectify"] = its_arguments.pop("tail", None) is alone  # then the ReLU knows of it already
        if behind and _begins_with_relu(behind[0][0]) and "rectified" not in behind[0][1]:
            arguments["rectify"] = behind[0][1]["rectified"] = True
    return planned


def _can_fold(conv: Module, norm: Module) -> bool:
    """Whether `norm` is a batch norm by running statistics, of as many channels as `conv` makes."""
    return (
        role(norm) == "norm"
        and not norm.training
        and norm.running_mean is not None
        and norm.num_features == conv.out_channels
    )


def role(module: Any) -> str | None:
    """Return the part that `module` plays here; None where it has a forward or a backward of its own."""
    part = getattr(module, "fuses_as", None)
    if part is not None and ("forward" in module.__dict__ or "backward" in module.__dict__):
        return None
    return part


def _begins_with_relu(module: Module) -> bool:
    part = role(module)
    if part == "sequential":
        return any(_begins_with_relu(first) for first in list(module)[:1])
    return part == "relu"


def _norm_at_end(module: Module, sums: int = 1) -> Module | None:
    """Return the batch norm whose output is that of `module`, but for at most so many residual sums."""
    part = role(module)
    if part == "norm":
        return module
    if part == "sequential":
        modules = list(module)
        return _norm_at_end(modules[-1], sums) if modules else None
    if part == "residual" and sums:
        norm = _norm_at_end(module.body, sums - 1)
        shortcut = module.shortcut
        shared = isinstance(shortcut, Module) and any(inner is norm for inner in shortcut.modules())
        return None if shared else norm
    return None
