"""The base class of everything that has a forward and a backward."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np

from nnk import backend
from nnk.nn import pending
from nnk.nn.parameter import Parameter

__all__ = ["Module"]


class LoadedKeys(NamedTuple):
    """What `Module.load_state_dict` returns: the keys that did not match, empty lists when it is strict."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class Module:
    """A piece of a network: ``y = module(x)``, then ``dx = module.backward(dy)``.

    A subclass writes both. `forward` hands what backward will need to `save`; `backward` takes it from `saved`, adds
    the gradients of its parameters with ``parameter.accumulate(g)`` and returns the gradient to its input:

        class Scale(nn.Module):
            def __init__(self):
                self.factor = nn.Parameter(np.ones(1, np.float32))

            def forward(self, x):
                self.save(x)
                return x * self.factor.data

            def backward(self, dy):
                x = self.saved()
                self.factor.accumulate((dy * x).sum().reshape(1))
                return dy * self.factor.data

    A module made of modules calls them in `forward` and their backwards in reverse order in `backward`. Parameters,
    modules and buffers are found among the attributes. ``backward(dy, input_grad=False)`` returns None, and a backward
    that takes an argument `input_grad` can then leave that gradient out. A loss's backward has ``dy=None`` as default,
    and gets ones for it.

    Forwards wait on a stack until their backward (see `nnk.nn.pending`). Calling backward before forward raises
    RuntimeError, a `dy` of another shape than the output ValueError, of another dtype TypeError.
    """

    training: bool
    fuses_as: ClassVar[str | None] = None  # the part that its forward and backward play in `nnk.nn.fusion`

    def __new__(cls, *args: Any, **kwargs: Any) -> Module:
        """Make the module with the attributes that all modules have."""
        self = super().__new__(cls)
        # Here and not in __init__, so that a subclass need not call super().__init__() and copies start empty.
        self.__dict__.update(training=True, _pending=[], _buffers={})
        return self

    def __init__(self):
        """Take no arguments, unless a subclass says otherwise."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # `fuses_as` speaks of the methods beside it: a class that runs others does not inherit it.
        owner = next(base for base in cls.__mro__ if "fuses_as" in base.__dict__)
        if any(getattr(cls, name) is not getattr(owner, name) for name in ("forward", "backward", "__call__")):
            cls.fuses_as = None
        if "forward" in cls.__dict__:
            cls.forward = pending.recorded_forward(cls.forward)
        if "backward" in cls.__dict__:
            cls.backward = pending.recorded_backward(cls.backward)

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        """Return ``self.forward(*inputs, **options)``."""
        return self.forward(*inputs, **options)

    def forward(self, *inputs: Any) -> Any:
        """Return the output for `inputs`."""
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def backward(self, dy: Any, input_grad: bool = True) -> Any:
        """Add the gradients of the parameters and return the gradient to the input, None without `input_grad`."""
        raise NotImplementedError(
            f"{type(self).__name__} has no backward: nnk keeps no tape, so who writes a forward writes its backward "
            "too (help(nnk.nn.Module) shows how)"
        )

    def save(self, *values: Any) -> None:
        """In `forward`: keep values for backward. Under `no_grad` nothing is kept."""
        if not pending.thread.saving:
            return
        if pending.thread.current.saved is not None:
            raise RuntimeError(f"{type(self).__name__}.forward called save twice: give all values to one call")
        pending.thread.current.saved = values

    def saved(self) -> Any:
        """In `backward`: what `save` was given, the value itself if it was one, else a tuple."""
        forward = pending.thread.current
        while forward.saved is None:
            # A subclass that overrides forward alone and calls super().forward(x): there it was saved.
            forward = forward.within(self)
            if forward is None:
                raise RuntimeError(f"{type(self).__name__}.forward saved nothing for this backward")
            forward.take(self)
        values, forward.saved = forward.saved, None
        return values[0] if len(values) == 1 else values

    # ------------------------------------------------------------------------------------------------ attributes

    def __setattr__(self, name: str, value: Any) -> None:
        held = self.__dict__.get(name)
        if isinstance(held, Parameter) and not (value is None or isinstance(value, Parameter)):
            raise TypeError(
                f"{type(self).__name__}.{name} is a Parameter and cannot become a {type(value).__name__}: "
                f"assign to {name}.data instead"
            )
        if name in self._buffers and value is not None:
            value = backend.as_array(value)
        self.__dict__[name] = value

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        self._buffers.pop(name, None)

    def register_buffer(self, name: str, value: Any, persistent: bool = True) -> None:
        """Make `value`, an array or None, an attribute that moves with the module but is not trained.

        A persistent buffer is part of `state_dict`.
        """
        if name in self.__dict__ and name not in self._buffers:
            raise KeyError(f"{type(self).__name__} has an attribute {name!r} already")
        self._buffers[name] = persistent
        setattr(self, name, value)

    # ------------------------------------------------------------------------------------------------ iteration

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Yield (name, module) for every module among the attributes, each module once."""
        seen = set()
        for name, value in self.__dict__.items():
            if isinstance(value, Module) and id(value) not in seen:
                seen.add(id(value))
                yield name, value

    def children(self) -> Iterator[Module]:
        """Yield every module among the attributes, once."""
        for _, child in self.named_children():
            yield child

    def named_modules(self, prefix: str = "", remove_duplicate: bool = True) -> Iterator[tuple[str, Module]]:
        """Yield (dotted name, module) for this module and all inside it, outermost first, each module once."""
        seen = set()
        for name, module in self._walk(prefix):
            if not (remove_duplicate and id(module) in seen):
                seen.add(id(module))
                yield name, module

    def _walk(self, prefix: str) -> Iterator[tuple[str, Module]]:
        yield prefix, self
        for name, value in self.__dict__.items():
            if isinstance(value, Module):
                yield from value._walk(f"{prefix}.{name}" if prefix else name)

    def modules(self) -> Iterator[Module]:
        """Yield this module and all inside it, outermost first, each once."""
        for _, module in self.named_modules():
            yield module

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """Yield (dotted name, Parameter), a shared one once, under its first name."""
        seen = set()
        for owner, module in self._walk(prefix) if recurse else [(prefix, self)]:
            for name, value in module.__dict__.items():
                if isinstance(value, Parameter) and not (remove_duplicate and id(value) in seen):
                    seen.add(id(value))
                    yield (f"{owner}.{name}" if owner else name), value

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """Yield every Parameter, a shared one once."""
        for _, parameter in self.named_parameters(recurse=recurse):
            yield parameter

    def named_buffers(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Any]]:
        """Yield (dotted name, array) for every buffer that is not None."""
        for owner, module in self.named_modules(prefix) if recurse else [(prefix, self)]:
            for name in module._buffers:
                value = module.__dict__[name]
                if value is not None:
                    yield (f"{owner}.{name}" if owner else name), value

    def buffers(self, recurse: bool = True) -> Iterator[Any]:
        """Yield every buffer that is not None."""
        for _, buffer in self.named_buffers(recurse=recurse):
            yield buffer

    def apply(self, function: Callable[[Module], Any]) -> Module:
        """Call ``function(module)`` on every module inside this one, then on this one; return self."""
        for child in self.children():
            child.apply(function)
        function(self)
        return self

    # ------------------------------------------------------------------------------------------------ modes

    def train(self, mode: bool = True) -> Module:
        """Set training mode (or eval mode for False) here and in all modules inside; return self."""
        for module in self.modules():
            module.training = bool(mode)
        return self

    def eval(self) -> Module:
        """Set eval mode: dropout passes, batch norm uses its running statistics; return self."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Module:
        """Set `requires_grad` of every parameter; return self."""
        for parameter in self.parameters():
            parameter.requires_grad = bool(requires_grad)
        return self

    def zero_grad(self) -> None:
        """Set `.grad` of every parameter to None."""
        for parameter in self.parameters():
            parameter.grad = None

    # ------------------------------------------------------------------------------------------------ device, dtype

    def to(self, *targets: Any) -> Module:
        """Move to "cpu" or "cuda", or convert all floats to a dtype, or both; return self.

        Parameters stay the same objects and get new arrays, so an optimiser goes on with them.
        Raises ValueError on another device name, TypeError on a dtype that is no float, RuntimeError without a GPU.
        """
        for target in targets:
            if isinstance(target, str) and target.partition(":")[0] in ("cpu", "cuda"):
                device = backend.check_device(target)
                self._convert(lambda array, device=device: backend.asarray_on(array, device))
            else:
                dtype = backend.as_dtype(target, "a target other than 'cpu' and 'cuda'")
                self._convert(
                    lambda array, dtype=dtype: (
                        array.astype(dtype, copy=False) if backend.is_float(array.dtype) else array
                    )
                )
        return self

    def float(self) -> Module:
        """Convert all floats to float32; return self."""
        return self.to(np.float32)

    def double(self) -> Module:
        """Convert all floats to float64, for ``use_backend("reference")``; return self."""
        return self.to(np.float64)

    def cpu(self) -> Module:
        """Move to the CPU; return self."""
        return self.to("cpu")

    def cuda(self) -> Module:
        """Move to the GPU; return self."""
        return self.to("cuda")

    def _convert(self, convert: Callable[[Any], Any]) -> None:
        for parameter in self.parameters():
            grad, parameter.grad = parameter.grad, None
            parameter.data = convert(parameter.data)
            parameter.grad = None if grad is None else convert(grad)
        for module in self.modules():
            for name in module._buffers:
                value = module.__dict__[name]
                if value is not None:
                    module.__dict__[name] = convert(value)

    # ------------------------------------------------------------------------------------------------ state

    def state_dict(self, prefix: str = "") -> dict[str, Any]:
        """Return the live arrays of all parameters and persistent buffers under PyTorch's keys."""
        state = {}
        for name, value in self.__dict__.items():
            if isinstance(value, Parameter):
                state[prefix + name] = value.data
        for name, persistent in self._buffers.items():
            if persistent and self.__dict__[name] is not None:
                state[prefix + name] = self.__dict__[name]
        for name, value in self.__dict__.items():
            if isinstance(value, Module):
                state.update(value.state_dict(f"{prefix}{name}."))
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> LoadedKeys:
        """Copy arrays (also 0-d ones, PyTorch tensors, …) into this module's own.

        Missing and unexpected keys are errors when `strict`, arrays of another shape or kind always. Raises ValueError
        that lists them all; nothing is copied then. Returns (missing_keys, unexpected_keys).
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"state_dict is a {type(state_dict).__name__}, expected a mapping of names to arrays")
        own = self.state_dict()
        missing = [key for key in own if key not in state_dict]
        unexpected = [key for key in state_dict if key not in own]
        problems = []
        if strict and missing:
            problems.append("missing: " + ", ".join(missing))
        if strict and unexpected:
            problems.append("unexpected: " + ", ".join(map(str, unexpected)))
        loaded = {}
        for key in own:
            if key in state_dict:
                try:
                    loaded[key] = _matching(state_dict[key], own[key])
                except (TypeError, ValueError) as error:
                    problems.append(f"{key}: {error}")
        if problems:
            raise ValueError(f"state_dict does not fit this {type(self).__name__}:\n  " + "\n  ".join(problems))
        for key, value in loaded.items():
            own[key][...] = value
        return LoadedKeys(missing, unexpected)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_pending"}

    # ------------------------------------------------------------------------------------------------ text

    def extra_repr(self) -> str:
        """Return the arguments that `repr` shows in brackets."""
        return ""

    def __repr__(self) -> str:
        name = type(self).__name__
        lines = [
            f"  ({key}): " + repr(value).replace("\n", "\n  ")
            for key, value in self.__dict__.items()
            if isinstance(value, Module)
        ]
        extra = self.extra_repr()
        if not lines:
            return f"{name}({extra})"
        return "\n".join([f"{name}(", *([f"  {extra}"] if extra else []), *lines, ")"])

    def summary(self, x: Any) -> str:
        """Return a table of all layers with output shapes and numbers of parameters, for the input `x`."""
        from nnk.nn.inspect import summary

        return summary(self, x)


def _matching(value: Any, own: Any) -> Any:
    """Return `value` as an array that can be copied into `own`; raise ValueError or TypeError."""
    array = backend.as_array(value)
    if array.shape != own.shape:
        raise ValueError(f"shape {array.shape}, expected {own.shape}")
    if not np.can_cast(array.dtype, own.dtype, "same_kind"):
        raise TypeError(f"dtype {array.dtype}, expected {own.dtype}")
    return backend.asarray_on(array, backend.device_of(own))
