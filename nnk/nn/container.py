"""Modules made of modules: in a row, in a list, beside each other; and the two that only pass on.

A container's backward calls the backwards of its modules in the exact reverse order of its forward. `Sequential` and
`Residual` let a batch norm do the work of the sum and the ReLU behind it, and a convolution that of what is behind it:
see `nnk.nn.fusion`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np

from nnk import backend
from nnk.nn import arguments, fusion, pending
from nnk.nn.module import Module

__all__ = ["Concat", "Flatten", "Identity", "ModuleList", "Residual", "Sequential"]


def _module(value: Any, name: str) -> Module:
    if isinstance(value, type) and issubclass(value, Module):
        raise TypeError(f"{name} is the class {value.__name__}, expected a Module: call it, as in {value.__name__}()")
    if not isinstance(value, Module):
        raise TypeError(f"{name} is a {type(value).__name__}, expected a Module")
    return value


class _Numbered(Module):
    """What `Sequential` and `ModuleList` have in common: modules in order, reached by position like a list's items.

    They are attributes named "0", "1", … or as a mapping named them; nothing else keeps their order.
    """

    def _fill(self, modules: Iterable[tuple[str, Module]]) -> None:
        modules = list(modules)
        for name in [name for name, value in self.__dict__.items() if isinstance(value, Module)]:
            del self.__dict__[name]
        for name, module in modules:
            setattr(self, name, _module(module, f"{type(self).__name__}: item {name}"))

    def _items(self) -> list[tuple[str, Module]]:
        return [(name, value) for name, value in self.__dict__.items() if isinstance(value, Module)]

    def __iter__(self) -> Iterator[Module]:
        return iter([value for value in self.__dict__.values() if isinstance(value, Module)])

    def __len__(self) -> int:
        return len(self._items())

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return type(self)._of(self._items()[index])
        return self._items()[index][1]

    def __setitem__(self, index: int, module: Module) -> None:
        items = self._items()
        items[index] = (items[index][0], module)
        self._fill(items)

    def __delitem__(self, index: int | slice) -> None:
        modules = list(self)
        del modules[index]
        self._renumber(modules)

    def _renumber(self, modules: Iterable[Module]) -> None:
        self._fill((str(i), module) for i, module in enumerate(modules))

    def append(self, module: Module) -> Any:
        """Add a module at the end; return self."""
        self._fill([*self._items(), (str(len(self)), module)])
        return self

    def extend(self, modules: Iterable[Module]) -> Any:
        """Add modules at the end; return self."""
        for module in modules:
            self.append(module)
        return self

    def insert(self, index: int, module: Module) -> Any:
        """Add a module before position `index`; return self."""
        modules = list(self)
        modules.insert(index, module)
        self._renumber(modules)
        return self


class Sequential(_Numbered):
    """Modules in a row: each gets the output of the one before it.

    Takes modules, or one mapping of names to modules. An empty one passes its input on.
    Raises TypeError on what is no module.
    """

    fuses_as: ClassVar = "sequential"

    def __init__(self, *modules: Any):
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            self._fill(modules[0].items())
        else:
            self._renumber(modules)

    @classmethod
    def _of(cls, items: list[tuple[str, Module]]) -> Sequential:
        return cls(dict(items))

    def forward(self, x: Any, rectified: bool = False, tail: Any = None) -> Any:
        """Return the last module's output. `rectified` and `tail` are explained in `nnk.nn.fusion`."""
        steps = fusion.steps(list(self))
        self.save(steps)
        for module, fused in fusion.ahead(fusion.between(steps, rectified, tail)):
            x = module(x, **fused)
        return x

    def backward(self, dy: Any, input_grad: bool = True, rectified: bool = False, tail: Any = None) -> Any:
        """Go back from the last module to the first; return the first one's gradient."""
        # A subclass with a forward of its own has saved no steps.
        steps = self.saved() if self.fuses_as else [(module, {}) for module in self]
        if not steps:
            return dy
        (first, its_fused), *others = fusion.between(steps, rectified, tail)
        for module, fused in reversed(others):
            dy = module.backward(dy, **fused)
        return first.backward(dy, input_grad=input_grad, **its_fused)


class ModuleList(_Numbered):
    """A list of modules that the module holding it calls as it likes; it has no forward itself.

    Raises TypeError on what is no module.
    """

    def __init__(self, modules: Iterable[Module] | None = None):
        self._renumber(modules or ())

    @classmethod
    def _of(cls, items: list[tuple[str, Module]]) -> ModuleList:
        return cls(module for _, module in items)


class Residual(Module):
    """y = body(x) + shortcut(x), or body(x) + x without a shortcut; dx is the sum of both gradients.

    Raises ValueError when the two have different shapes, TypeError on a body or shortcut that is no module.
    Source: He et al. (2016), arXiv:1512.03385.
    """

    fuses_as: ClassVar = "residual"

    def __init__(self, body: Module, shortcut: Module | None = None):
        self.body = _module(body, "Residual: body")
        self.shortcut = None if shortcut is None else _module(shortcut, "Residual: shortcut")

    def forward(self, x: Any, tail: Any = None) -> Any:
        """Return the sum. `tail` is explained in `nnk.nn.fusion`."""
        x = backend.as_array(x)

        def skip(shape: tuple[int, ...]) -> tuple[Any, bool]:
            skipped = x if self.shortcut is None else self.shortcut(x)
            if shape != skipped.shape:
                name = "the input" if self.shortcut is None else "shortcut(x)"
                raise ValueError(f"Residual: body(x) has shape {shape}, {name} {skipped.shape}, expected the same")
            return skipped, tail is not None

        if tail is not None or fusion.adds(self):
            return self.body(x, tail=pending.from_here(skip))
        y = self.body(x)
        skipped, _ = skip(y.shape)
        return backend.of(y, skipped).add(y, skipped)

    def backward(self, dy: Any, input_grad: bool = True, tail: Any = None) -> Any:
        """Go back through shortcut and body; return the sum of their gradients."""
        skipped = None

        def skip(dy: Any) -> None:
            nonlocal skipped
            skipped = dy if self.shortcut is None else self.shortcut.backward(dy, input_grad=input_grad)

        if tail is None:
            skip(dy)
            dx = self.body.backward(dy, input_grad=input_grad)
        else:
            dx = self.body.backward(dy, input_grad=input_grad, tail=skip)
        return backend.of(dx, skipped).add(dx, skipped) if input_grad else None


class Concat(Module):
    """The outputs of all branches for the same input, side by side along the channels, axis `dim`.

    `dim` is 1; for single images (C, H, W) it is 0. The gradient is the sum of the branches'.
    Raises ValueError without branches and when their outputs differ in more than that axis, TypeError on a branch that
    is no module.
    Sources: Szegedy et al. (2015), arXiv:1409.4842; Huang et al. (2017), arXiv:1608.06993.
    """

    def __init__(self, *branches: Module, dim: int = 1):
        if not branches:
            raise ValueError("Concat: no branches, expected at least one")
        self.dim = arguments.integer(dim, "dim")
        for i, branch in enumerate(branches):
            setattr(self, str(i), _module(branch, f"Concat: branch {i}"))

    def forward(self, x: Any) -> Any:
        """Return the branches' outputs side by side."""
        x = backend.as_array(x)
        outputs = [branch(x) for branch in self._branches()]
        shapes = [y.shape for y in outputs]
        others = {(*shape[: self.dim], *shape[self.dim :][1:]) for shape in shapes}
        if len(others) > 1:
            raise ValueError(f"Concat: the outputs have shapes {shapes}, expected to differ in axis {self.dim} alone")
        self.save(np.cumsum([shape[self.dim] for shape in shapes])[:-1].tolist())
        return backend.concatenate(outputs, self.dim)

    def backward(self, dy: Any, input_grad: bool = True) -> Any:
        """Give each branch its part of dy, the last one first; return the sum of their gradients."""
        parts = np.split(dy, self.saved(), axis=self.dim)
        dx = None
        for branch, part in zip(reversed(self._branches()), reversed(parts)):
            grad = branch.backward(part, input_grad=input_grad)
            dx = grad if dx is None else backend.of(dx, grad).add(dx, grad)
        return dx

    def _branches(self) -> list[Module]:
        return [value for value in self.__dict__.values() if isinstance(value, Module)]

    def extra_repr(self) -> str:
        """Return the arguments that `repr` shows."""
        return "" if self.dim == 1 else f"dim={self.dim}"


class Identity(Module):
    """y = x. Arguments of any kind are accepted and ignored."""

    fuses_as: ClassVar = "identity"

    def __init__(self, *args: Any, **kwargs: Any):
        pass

    def forward(self, x: Any) -> Any:
        """Return `x`."""
        return backend.as_array(x)

    def backward(self, dy: Any, input_grad: bool = True) -> Any:
        """Return dy."""
        return dy


class Flatten(Module):
    """Join the axes from `start_dim` to `end_dim`, both included, into one: (N, C, H, W) -> (N, C*H*W), in that order.

    Raises ValueError when the input has no such axes.
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1):
        self.start_dim = arguments.integer(start_dim, "start_dim")
        self.end_dim = arguments.integer(end_dim, "end_dim")

    def forward(self, x: Any) -> Any:
        """Return `x` with these axes joined."""
        x = backend.as_array(x)
        axes = max(x.ndim, 1)  # a 0-d array counts as one axis of length 1
        start, end = (dim + axes if dim < 0 else dim for dim in (self.start_dim, self.end_dim))
        if not 0 <= start <= end < axes:
            raise ValueError(
                f"Flatten: the input has shape {x.shape}, expected axes from start_dim {self.start_dim} to end_dim "
                f"{self.end_dim}"
            )
        self.save(x.shape)
        shape = x.shape or (1,)
        return backend.contiguous(x).reshape(*shape[:start], int(np.prod(shape[start : end + 1])), *shape[end + 1 :])

    def backward(self, dy: Any, input_grad: bool = True) -> Any:
        """Return dy in the input's shape."""
        return dy.reshape(self.saved())

    def extra_repr(self) -> str:
        """Return the arguments that `repr` shows."""
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"
