"""How constructor arguments are read: numbers, pairs, sizes, and flags of torch.nn that nnk takes only at one value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Pair = int | Sequence[int]


def integer(value: Any, name: str, least: int | None = None) -> int:
    """Return `value` as an int; raise TypeError on another type and ValueError below `least`, naming the argument."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} is {value!r}, expected an int")
    if least is not None and value < least:
        raise ValueError(f"{name} is {value}, expected at least {least}")
    return int(value)


def number(value: Any, name: str) -> Any:
    """Return `value` as it is; raise TypeError unless it is a number, which an array of no axes is too."""
    if np.ndim(value) or np.asarray(value).dtype.kind not in "biuf":
        raise TypeError(f"{name} is {value!r}, expected a number")
    return value


def pair(value: Any, name: str, least: int) -> tuple[int, int]:
    """Return (height, width) from an int or a sequence of one or two ints, each at least `least`."""
    if isinstance(value, (tuple, list)):
        if len(value) not in (1, 2):
            raise ValueError(f"{name} is {value!r}, expected an int or a sequence of one or two ints")
        height, width = value[0], value[-1]
    else:
        height = width = value
    return integer(height, name, least), integer(width, name, least)


def spread(value: Pair) -> tuple[int, int]:
    """Return the (height, width) of an argument that `pair` has checked before."""
    return (value[0], value[-1]) if isinstance(value, (tuple, list)) else (value, value)


def only(value: Any, name: str, *supported: Any) -> None:
    """Raise ValueError unless `value` is one of the `supported` ones."""
    if value not in supported:
        expected = " or ".join(map(repr, supported))
        raise ValueError(f"{name}={value!r} is not supported, expected {expected}")
