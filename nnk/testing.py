"""Checks that a module's backward is the derivative of its forward."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np

from nnk import backend
from nnk.nn.inspect import untouched
from nnk.nn.module import Module
from nnk.nn.pending import no_grad

__all__ = ["gradcheck"]

STEPS = (1e-4, 1e-5, 1e-6, 1e-7)


def gradcheck(
    module: Module,
    *inputs: Any,
    wrt: Sequence[int] = (0,),
    directions: int = 3,
    rtol: float = 1e-5,
    atol: float = 1e-8,
    seed: int = 0,
) -> bool:
    """Compare a module's gradients with central differences; return True, or raise AssertionError saying what differs.

    For a random dy the check takes L = sum(dy * module(*inputs)). For each differentiated input and every parameter
    a, and for each of several random directions v, backward's <dL/da, v> must equal

        (L(a + h v) - L(a - h v)) / (2 h)

    within atol + rtol * (the sum of |dL/da * v|), at one of several step sizes h at least: a step over a kink spoils
    a quotient, shorter ones come clear of it. All this runs in float64 on the reference backend, on a copy of the
    module, wherever that is, with all floats moved by some 1e-3 first, so that none lies on a kink. Random numbers
    (dropout) are the same in every evaluation; the module's mode is kept.

    Args:
        module: the module, a loss as well.
        inputs: arrays of floats or labels.
        wrt: which inputs are differentiated, by position: as many as backward returns gradients. Others, such as a
            loss's labels, are passed on.
        directions: how many random directions for each array.
        rtol: relative tolerance.
        atol: absolute tolerance.
        seed: of the random directions.

    Raises:
        AssertionError: naming each parameter (or "input", "input 2", …) that disagrees, with both derivatives.
    """
    rng = np.random.default_rng(seed)
    module = copy.deepcopy(module).cpu().double()
    inputs = [_double(value) for value in inputs]
    names = ["input" if i == 0 else f"input {i + 1}" for i in wrt]
    arrays = dict(zip(names, (inputs[i] for i in wrt)))
    arrays |= {name: p.data for name, p in module.named_parameters() if p.requires_grad}
    for array in arrays.values():
        array += rng.uniform(0.5e-3, 1.5e-3, array.shape) * rng.choice([-1, 1], array.shape)
    with backend.use_backend("reference"):
        dy, gradients = _backward(module, inputs, names, rng)

        def loss() -> float:
            with untouched(module), no_grad():
                return float(np.sum(dy * _first(module(*inputs))))

        problems = []
        for name, array in arrays.items():
            if np.shape(gradients[name]) != array.shape:
                problems.append(f"{name}: backward gives shape {np.shape(gradients[name])}, expected {array.shape}")
                continue
            for _ in range(directions):
                v = rng.standard_normal(array.shape)
                shares = gradients[name] * v
                ours = shares.sum()
                slopes = np.array([_slope(loss, array, v, h) for h in STEPS])
                nearest = slopes[np.abs(slopes - ours).argmin()]
                if not abs(nearest - ours) <= atol + rtol * np.abs(shares).sum():
                    problems.append(f"{name}: along a direction backward gives {ours:.10g}, differences {nearest:.10g}")
                    break
    if problems:
        raise AssertionError(f"{type(module).__name__}.backward is wrong:\n  " + "\n  ".join(problems))
    return True


def _double(value: Any) -> Any:
    value = backend.asarray_on(backend.as_array(value), "cpu")
    return value.astype(np.float64) if value.dtype.kind == "f" else value


def _first(output: Any) -> Any:
    return output[0] if isinstance(output, tuple) else output


def _backward(
    module: Module, inputs: list, names: list[str], rng: np.random.Generator
) -> tuple[Any, dict[str, Any]]:
    """Run forward and backward once; return dy and all gradients by name, zeros where backward left none."""
    with untouched(module):
        y = _first(module(*inputs))
        dy = rng.standard_normal(y.shape)
        module.zero_grad()
        dx = module.backward(dy)
    gradients = {name: np.zeros(p.shape) if p.grad is None else p.grad for name, p in module.named_parameters()}
    dx = dx if isinstance(dx, tuple) else (dx,)
    if len(dx) != len(names):
        name = type(module).__name__
        raise AssertionError(f"{name}.backward returned {len(dx)} gradients, but wrt names {len(names)} inputs")
    return dy, {**dict(zip(names, dx)), **gradients}


def _slope(loss: Any, array: np.ndarray, v: np.ndarray, h: float) -> float:
    before = array.copy()
    array[...] = before + h * v
    above = loss()
    array[...] = before - h * v
    below = loss()
    array[...] = before
    return (above - below) / (2 * h)
