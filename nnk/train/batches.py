"""Batches of whatever a trainer is given."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator
from typing import Any

from nnk import backend
from nnk.data import DataLoader


def pairs(data: DataLoader | Iterable, epoch: int = 0, start: int = 0) -> Iterator[tuple[Any, Any]]:
    """Yield the batches of an epoch from number ``start`` on, as pairs of arrays."""
    if isinstance(data, DataLoader):
        source = data.batches(epoch, start)
    else:
        source = itertools.islice(data, start, None)
    with contextlib.closing(source) if hasattr(source, "close") else contextlib.nullcontext():
        for batch in source:
            if not isinstance(batch, (tuple, list)) or len(batch) != 2:
                raise TypeError(f"a batch is {_kind(batch)}, expected a pair (input, target)")
            yield backend.as_array(batch[0]), backend.as_array(batch[1])


def _kind(batch: Any) -> str:
    return f"a {type(batch).__name__}" + (f" of {len(batch)}" if hasattr(batch, "__len__") else "")
