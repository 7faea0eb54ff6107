"""What a forward leaves behind for its backward, and the switch that leaves nothing.

Every call of a module's `forward` makes one `Pending`: the values that it saved and the shape and dtype that its
gradient must have. It waits on the module's own stack until `backward` takes it, last in, first out; so a module that a
network uses twice works when its backwards come in reverse order. `Module` wraps the forward and backward of every
subclass in the two functions below, which keep the stacks right:

- a forward that raises leaves every stack as it was;
- a backward checks its gradient before it takes anything; one that fails halfway drops the rest of its forward;
- in eval mode a new outermost forward drops the module's earlier ones, so inference without `no_grad` cannot pile up.
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from nnk import backend

if TYPE_CHECKING:
    from nnk.nn.module import Module

MAX_PENDING = 1000


class Pending:
    """One forward that waits for its backward."""

    __slots__ = ("device", "dtype", "inner", "outermost", "owner", "saved", "several", "shape", "waiting")

    def __init__(self, module: Module, outermost: bool):
        self.owner = id(module)  # not the module: it would keep itself alive through its stack
        self.saved: tuple | None = None
        self.shape: tuple[int, ...] | None = None  # of the output, or of the first of several; None if it is no array
        self.dtype: np.dtype | None = None
        self.device = "cpu"
        self.several = False
        self.inner: list[tuple[Module, Pending]] = []  # forwards of other modules inside this one, in order
        self.outermost = outermost
        self.waiting = True

    def within(self, module: Module) -> Pending | None:
        """Return the latest forward of `module` inside this one that still waits."""
        for inner, pending in reversed(self.inner):
            if inner is module and pending.waiting:
                return pending
        return None

    def take(self, module: Module) -> None:
        """Remove this forward from the stack of `module`: its backward begins."""
        self.waiting = False
        module._pending.remove(self)

    def drop(self, module: Module) -> None:
        """Forget this forward of `module` and those inside it."""
        if self.waiting:
            with suppress(ValueError):  # another thread's forward in eval mode may have dropped it
                self.take(module)
        self.drop_inner()

    def drop_inner(self) -> None:
        """Forget the forwards inside this one."""
        for module, pending in self.inner:
            if pending.waiting or pending.inner:
                pending.drop(module)
        self.inner.clear()


class _Thread(threading.local):
    saving = True  # False under no_grad
    current: Pending | None = None  # the forward or backward that runs now
    watcher: Callable[[Any, Any], None] | None = None


thread = _Thread()


@contextmanager
def no_grad() -> Iterator[None]:
    """Save nothing for backward inside the block (or the decorated function), in this Python thread only."""
    before, thread.saving = thread.saving, False
    try:
        yield
    finally:
        thread.saving = before


@contextmanager
def watch(callback: Callable[[Any, Any], None]) -> Iterator[None]:
    """Call ``callback(module, output)`` after every module's forward inside the block, in this Python thread only.

    Inner modules come before the modules that contain them.
    """
    before, thread.watcher = thread.watcher, callback
    try:
        yield
    finally:
        thread.watcher = before


def from_here(function: Callable) -> Callable:
    """Return `function` so that the forwards in it are inside the one that runs now, whichever it is called from."""
    here = thread.current

    def run(*args: Any) -> Any:
        elsewhere, thread.current = thread.current, here
        try:
            return function(*args)
        finally:
            thread.current = elsewhere

    return run


def recorded_forward(forward: Callable) -> Callable:
    """Wrap a module's forward: its `Pending` is on the module's stack once it has returned."""

    @functools.wraps(forward)
    def run(self: Module, *inputs: Any, **options: Any) -> Any:
        if thread.saving:
            output = _record(self, forward, inputs, options)
        else:
            output = forward(self, *inputs, **options)
        if thread.watcher is not None:
            thread.watcher(self, output)
        return output

    return run


def _record(module: Module, forward: Callable, inputs: tuple, options: dict) -> Any:
    outer = thread.current
    stack = module._pending
    if outer is None and module.training and len(stack) >= MAX_PENDING:
        raise RuntimeError(
            f"{type(module).__name__} has {len(stack)} forwards without a backward: call backward() after each, or "
            "compute without gradients in `with nnk.no_grad():`"
        )
    pending = Pending(module, outermost=outer is None)
    try:
        thread.current = pending
        output = forward(module, *inputs, **options)
    except BaseException:
        pending.drop_inner()
        raise
    finally:
        thread.current = outer
    pending.several = type(output) is tuple
    first = output[0] if pending.several and output else output
    if hasattr(first, "dtype"):
        pending.shape, pending.dtype = first.shape, first.dtype
        if type(first) is not np.ndarray:
            pending.device = backend.device_of(first)
    if outer is not None:
        outer.inner.append((module, pending))
    elif stack and not module.training:
        for earlier in [p for p in stack if p.outermost]:
            earlier.drop(module)
    stack.append(pending)
    return output


def recorded_backward(backward: Callable) -> Callable:
    """Wrap a module's backward: it takes the module's latest `Pending` and a gradient of the right shape and dtype.

    A backward without the argument `input_grad` is called without it. One whose `dy` is None by default belongs to a
    loss: without a gradient it gets ones.
    """
    parameters = inspect.signature(backward).parameters
    optional = "input_grad" in parameters
    is_loss = "dy" in parameters and parameters["dy"].default is None

    @functools.wraps(backward)
    def run(self: Module, dy: Any = None, input_grad: bool = True, **options: Any) -> Any:
        if optional:
            options["input_grad"] = input_grad
        outer = thread.current
        if outer is not None and outer.owner == id(self) and outer.within(self) is None:
            # super().backward(dy) in a subclass whose forward is inherited: both go back through the same forward.
            return backward(self, dy, **options)
        if not self._pending:
            raise RuntimeError(
                f"{type(self).__name__}.backward() has no forward to go back through: call the module first, once per "
                "backward and outside nnk.no_grad()"
            )
        pending = self._pending[-1]
        if dy is None and is_loss:
            dy = backend.ones(pending.shape, pending.dtype, pending.device)
        else:
            dy = check_gradient(dy, pending, self)
        try:
            pending.take(self)
            thread.current = pending
            dx = backward(self, dy, **options)
        finally:
            thread.current = outer
            pending.saved = None
            if pending.inner:
                pending.drop_inner()  # what backward had no use for, or did not reach
        return dx if input_grad else None

    return run


def check_gradient(dy: Any, pending: Pending, module: Module) -> Any:
    """Return `dy` as an array of the output's shape and dtype; raise TypeError or ValueError otherwise.

    The gradients of several outputs come as a tuple, which only the module itself can check.
    """
    if type(dy) is np.ndarray and dy.shape == pending.shape and dy.dtype == pending.dtype:
        return backend.as_array(dy)  # as it nearly always is
    if pending.shape is None or (pending.several and type(dy) is tuple):
        return dy
    if dy is None:
        raise TypeError(f"{type(module).__name__}.backward(dy): dy is None, expected an array of shape {pending.shape}")
    weak = isinstance(dy, (int, float, list, tuple, np.generic))
    dy = backend.as_array(dy)
    if weak:
        dy = backend.asarray_on(dy.astype(pending.dtype, copy=False), pending.device)
    if dy.shape != pending.shape:
        raise ValueError(
            f"{type(module).__name__}.backward(dy): dy has shape {dy.shape}, expected the output's, {pending.shape}"
        )
    if dy.dtype != pending.dtype:
        raise TypeError(
            f"{type(module).__name__}.backward(dy): dy has dtype {dy.dtype}, expected the output's, {pending.dtype}"
        )
    return dy
