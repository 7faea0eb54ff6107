"""What optimisers have in common: groups of parameters with their options, and a state for each parameter."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np

from nnk import backend
from nnk.dials import dial, only_eager
from nnk.nn import arguments
from nnk.nn.parameter import Parameter
from nnk.nn.utils import clip_scale, get_total_norm
from nnk.optim.regularization import perturb

__all__ = ["Optimizer"]


class Optimizer:
    """The base class of optimisers.

    `params` is an iterable of parameters, of pairs (name, parameter), or of dicts: one for each group, with the key
    "params" and whatever options differ from `defaults`. `param_groups` holds the groups, every option filled in;
    changing an option there counts from the next step. `state` maps a parameter to what its updates remember.

    Any group may also hold ``"l1"``, the factor of an L1 penalty: l1 * sign(p), the gradient of l1 * Σ|p|, is added to
    the gradient in the pass of the update. The L2 penalty, weight_decay / 2 * Σp², is the option `weight_decay`. And
    ``"noise"``: the standard deviation of Gaussian noise, added to the parameters after each update.

    A subclass defines `_check`, which raises ValueError on options out of range, and `_update`, which updates the
    parameters of one group that have a gradient, in one kernel call where their states allow; `first` are the options
    that all kernels share, which say what is done to a gradient first.

    Raises TypeError on what is no parameter, ValueError on no parameters and on one that comes twice.
    """

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]):
        self.defaults = defaults
        self.state: dict[Parameter, dict[str, Any]] = {}
        self.param_groups: list[dict[str, Any]] = []
        if isinstance(params, Parameter) or not isinstance(params, Iterable):
            raise TypeError(
                f"params is a {type(params).__name__}, expected an iterable of parameters, such as model.parameters(), "
                "or of dicts"
            )
        params = list(params)
        if not params:
            raise ValueError("params is empty, expected at least one parameter")
        for group in params if isinstance(params[0], Mapping) else [{"params": params}]:
            self.add_param_group(group)

    def _check(self, group: dict[str, Any]) -> None:
        raise NotImplementedError

    def _update(self, group: dict[str, Any], params: list[Parameter], grads: list[Any], first: dict[str, Any]) -> None:
        raise NotImplementedError

    def _in_step(
        self, params: list[Parameter], grads: list[Any], first: dict[str, Any], *names: str | None
    ) -> Iterator[tuple[Any, ModuleType, list[list[Any] | None]]]:
        """Yield (step, kernels, lists) for parameters that take the same step: data, gradients, the states of `names`.

        `step` is a `dial`, or where an update may be left out an array. States begin with zeros and steps with 1; the
        list of a name that is None is None.
        """
        # A parameter that had no gradient for a while is at an earlier step; usually all are at the same.
        steps: dict[int, list[tuple[Parameter, Any]]] = {}
        for parameter, grad in zip(params, grads):
            state = self.state.setdefault(parameter, {"step": 0})
            for name in names:
                if name is not None and name not in state:
                    state[name] = np.zeros_like(parameter.data)
            step = state["step"]
            steps.setdefault(step if isinstance(step, int) else id(step), []).append((parameter, grad))
        for pairs in steps.values():
            states = [self.state[parameter] for parameter, _ in pairs]
            lists = [[parameter.data for parameter, _ in pairs], [grad for _, grad in pairs]]
            lists += [None if name is None else [state[name] for state in states] for name in names]
            kernels = backend.of(*(array for arrays in lists for array in arrays or ()))
            skip = first.get("skip")
            yield dial(partial(_count, states), "int64") if skip is None else _count_there(states, skip), kernels, lists

    def _check_all(self, group: dict[str, Any]) -> None:
        self._check(group)
        at_least_zero(group, *{"l1", "noise"} & group.keys())

    def add_param_group(self, param_group: Mapping[str, Any]) -> None:
        """Train more parameters: a dict with the key "params" and the options that differ from the defaults."""
        if not isinstance(param_group, Mapping) or "params" not in param_group:
            raise TypeError(f"param_group is {param_group!r}, expected a dict with the key 'params'")
        params = param_group["params"]
        params = [params] if isinstance(params, Parameter) else list(params)
        group = {**param_group, "params": params}
        if params and all(isinstance(item, tuple) and len(item) == 2 for item in params):
            group["param_names"], group["params"] = map(list, zip(*params))
        known = {id(parameter) for other in self.param_groups for parameter in other["params"]}
        for parameter in group["params"]:
            if not isinstance(parameter, Parameter):
                raise TypeError(f"params holds a {type(parameter).__name__}, expected nnk.nn.Parameter")
            if id(parameter) in known:
                raise ValueError(f"params holds a parameter of shape {parameter.shape} twice")
            known.add(id(parameter))
        for name, value in self.defaults.items():
            group.setdefault(name, value)
        self._check_all(group)
        self.param_groups.append(group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Set `.grad` of every parameter to None, or without `set_to_none` to zeros where there is one."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if set_to_none or parameter.grad is None:
                    parameter.grad = None
                else:
                    parameter.grad = np.zeros_like(parameter.grad)

    def step(
        self,
        closure: Callable[[], Any] | None = None,
        *,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        grad_scale: Any = 1.0,
        skip: Any = None,
    ) -> Any:
        """Update every parameter that has a gradient; return what `closure`, called first, returned.

        `clip_norm` and `clip_value` clip the gradients as `nnk.nn.utils.clip_grad_norm_(params, clip_norm)` and
        `clip_grad_value_(params, clip_value)` would, in the pass of the update: `.grad` stays as it is. A parameter's
        `constraint` is applied after its update and the noise. The gradients are taken times `grad_scale`, before all
        that: for a loss that was scaled up. Where `skip`, a 0-d int32 array, is not 0, nothing is updated, and no step
        counted. Both may lie on the device, where alone they are looked at.

        Raises ValueError on a negative clip_norm, a clip_value that is not above 0, and on both.
        """
        loss = None if closure is None else closure()
        work = []
        for group in self.param_groups:
            params = [parameter for parameter in group["params"] if parameter.grad is not None]
            if params:
                work.append((group, params, [_gradient(parameter) for parameter in params]))
        clipping = _clipping([grad for _, _, grads in work for grad in grads], clip_norm, clip_value, grad_scale)
        if skip is not None:
            clipping["skip"] = skip
        for group, params, grads in work:
            first = {name: group[name] for name in ("weight_decay", "maximize")} | clipping
            now = {**group, "lr": dial(partial(group.__getitem__, "lr"))}
            self._update(now, params, grads, first | {"l1": group["l1"]} if "l1" in group else first)
            if group.get("noise"):
                perturb(params, group["noise"], skip)
            for parameter in params:
                if parameter.constraint is not None:
                    parameter.constraint(parameter.data)
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Return {"state", "param_groups"} as PyTorch does: the live state, parameters numbered in order."""
        numbers: dict[Parameter, int] = {}
        groups = []
        for group in self.param_groups:
            for parameter in group["params"]:
                numbers[parameter] = len(numbers)
            groups.append({**group, "params": [numbers[parameter] for parameter in group["params"]]})
        state = {numbers[parameter]: dict(values) for parameter, values in self.state.items()}
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned, here or in PyTorch: options and (copied) states.

        Raises TypeError for what is no such mapping, ValueError when groups or shapes do not fit; nothing is changed
        then.
        """
        if not isinstance(state_dict, Mapping) or not {"state", "param_groups"} <= set(state_dict):
            raise TypeError("state_dict has no 'state' and 'param_groups', expected what an optimiser's gave")
        saved = state_dict["param_groups"]
        ours, theirs = ([len(group["params"]) for group in groups] for groups in (self.param_groups, saved))
        if ours != theirs:
            raise ValueError(f"state_dict has groups of {theirs} parameters, expected {ours}")
        groups = []
        state = {}
        for group, loaded in zip(self.param_groups, saved):
            groups.append({**self.defaults, **loaded, "params": group["params"]})
            self._check_all(groups[-1])
            for number, parameter in zip(loaded["params"], group["params"]):
                if number in state_dict["state"]:
                    values = state_dict["state"][number].items()
                    state[parameter] = {name: _state_value(name, value, parameter) for name, value in values}
        self.param_groups, self.state = groups, state

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for i, group in enumerate(self.param_groups):
            lines += [""] * (i > 0) + [f"Parameter Group {i}"]
            lines += [f"    {name}: {group[name]}" for name in sorted(group) if name not in ("params", "param_names")]
        return "\n".join([*lines, ")"])


def _count(states: list[dict[str, Any]]) -> int:
    step = int(states[0]["step"]) + 1
    for state in states:
        state["step"] = step
    return step


def _count_there(states: list[dict[str, Any]], skip: Any) -> Any:
    """Count on the device of `skip`, which says there whether the step is none; the states share the number."""
    step = states[0]["step"]
    if isinstance(step, int):
        only_eager("the first update that may be left out")
        step = backend.asarray_on(np.array(step), backend.device_of(skip))
        for state in states:
            state["step"] = step
    step += 1 - skip
    return step


def _gradient(parameter: Parameter) -> Any:
    """Return the gradient as kernels take it: with the parameter's dtype, C-contiguous."""
    grad, data = parameter.grad, parameter.data
    if grad.dtype != data.dtype:
        grad = grad.astype(data.dtype)
    return grad if grad.flags.c_contiguous else grad.copy(order="C")


def check_clipping(clip_norm: float | None, clip_value: float | None) -> None:
    """Raise TypeError on no number, ValueError for a clip_norm below 0, a clip_value not above 0, and both."""
    if clip_norm is not None and clip_value is not None:
        raise ValueError("clip_norm and clip_value are both given, expected one of them")
    if clip_norm is not None and not arguments.number(clip_norm, "clip_norm") >= 0:
        raise ValueError(f"clip_norm is {clip_norm}, expected at least 0")
    if clip_value is not None and not arguments.number(clip_value, "clip_value") > 0:
        raise ValueError(f"clip_value is {clip_value}, expected above 0")


def _clipping(
    grads: list[Any], clip_norm: float | None, clip_value: float | None, grad_scale: Any
) -> dict[str, Any]:
    """Return the options of kernels that scale and clip gradients: clip(grad_scale · g, ±clip_value)."""
    check_clipping(clip_norm, clip_value)
    options = {"grad_scale": grad_scale}
    if clip_norm is not None:
        options["grad_scale"] = clip_scale(clip_norm, get_total_norm(grads) * grad_scale) * grad_scale
    if clip_value is not None:
        options["clip_value"] = clip_value
    return options


def _state_value(name: str, value: Any, parameter: Parameter) -> Any:
    if name == "step":
        return int(value)
    if value is None:
        return None
    value = backend.as_array(value)
    if value.shape != parameter.shape:
        raise ValueError(f"state_dict has {name} of shape {value.shape}, expected the parameter's, {parameter.shape}")
    value = backend.asarray_on(value, backend.device_of(parameter.data))
    return value.astype(parameter.dtype, order="C", copy=True)


def at_least_zero(group: dict[str, Any], *names: str) -> None:
    """Raise TypeError unless these options of a group are numbers, ValueError unless they are at least 0."""
    for name in names:
        if not arguments.number(group[name], name) >= 0:
            raise ValueError(f"{name} is {group[name]}, expected at least 0")
