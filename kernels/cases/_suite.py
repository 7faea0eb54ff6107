"""What a case file says of an op."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._layout import LAYOUTS

Inputs = dict[str, Any]
Results = dict[str, np.ndarray]


@dataclass(frozen=True)
class Case:
    """Named inputs: `make(rng)` gives float64 and int64 arrays (or lists of them) and the options.

    `smooth` is False where finite differences mean nothing: at a kink, beside infinities, or where the
    function bends within the step.
    """

    name: str
    make: Callable[[np.random.Generator], Inputs]
    smooth: bool = True


@dataclass(frozen=True)
class Terms:
    """A result as a sum of `count` terms of about `size` each, from which its rounding error follows.

    `size` may be an array that broadcasts with the result. `precision` is given where each term is a product whose
    factors `nnk.set_precision` allows a backend to round. A `wide` result is float32 where the inputs have 16 bits.
    """

    count: int
    size: float | np.ndarray
    precision: str = "highest"
    wide: bool = False


@dataclass(frozen=True)
class Cost:
    """What a call must spend at least: bytes moved to and from memory, arithmetic operations."""

    bytes: int
    flops: int


@dataclass(frozen=True)
class Suite:
    """Everything tests and bench know of one op.

    `run(backend, **inputs)` calls every function of the op and returns all results by name: "y" is the
    output, "d" + an input's name the gradient of Σ y · dy to that input. `gradients` names the inputs that
    have one. `terms(**inputs)` describes results whose rounding error is more than a few units in the last
    place. `cases` begins with a small ordinary one. `bench` holds realistic shapes for the clock, `cost(**inputs)`
    gives each function's `Cost` on them. `layouts` are the memory layouts that the op must accept.
    """

    cases: tuple[Case, ...]
    run: Callable[..., Results]
    bench: tuple[Case, ...]
    cost: Callable[..., dict[str, Cost]]
    terms: Callable[..., dict[str, Terms]] = lambda **inputs: {}
    gradients: tuple[str, ...] = ()
    layouts: tuple[str, ...] = LAYOUTS


def normal(rng: np.random.Generator, shape: int | tuple[int, ...]) -> np.ndarray:
    """Standard normal values, an array even when 0-d."""
    return np.asarray(rng.standard_normal(shape))


def rms(x: np.ndarray | None) -> float:
    """The root mean square of the finite values, 0 if there are none."""
    if x is None:
        return 0.0
    x = x[np.isfinite(x)]
    return float(np.sqrt(np.mean(x**2))) if x.size else 0.0
