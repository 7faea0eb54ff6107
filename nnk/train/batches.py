"""Batches of whatever a trainer is given, where its model is."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator
from typing import Any

from nnk import backend, nn
from nnk.data import ArrayDataset, DataLoader


def source(
    name: str, data: Any, batch_size: int, shuffle: bool = False, seed: int | None = None, device: str | None = None
) -> DataLoader | Iterable:
    """Return what batches come from: a loader of data given as arrays, for this device, anything else as it is.

    Raises TypeError, naming the argument ``name``, for data of which there are no batches.
    """
    if isinstance(data, tuple) and len(data) == 2 and all(hasattr(array, "shape") for array in data):
        data = ArrayDataset(*data)
    if isinstance(data, ArrayDataset):
        return DataLoader(data, batch_size, shuffle, seed=seed, device=device)
    if not isinstance(data, Iterable):
        raise TypeError(
            f"{name} is a {type(data).__name__}, expected a pair of arrays, an ArrayDataset, a DataLoader or "
            "another iterable of batches"
        )
    return data


def device_of(model: nn.Module) -> str | None:
    """Return where the parameters and buffers of a model are, None if it has none."""
    arrays = itertools.chain((parameter.data for parameter in model.parameters()), model.buffers())
    return next(map(backend.device_of, arrays), None)


def asarray_like(x: Any, model: Any) -> Any:
    """Return the array `x` on the device of the array `model`."""
    return backend.asarray_on(x, backend.device_of(model))


def brought(x: Any, device: str | None) -> Any:
    """Return `x` as an array on `device`, wherever it is for None."""
    x = backend.as_array(x)
    return x if device is None else backend.asarray_on(x, device)


def pairs(
    data: DataLoader | Iterable, epoch: int = 0, start: int = 0, device: str | None = None
) -> Iterator[tuple[Any, Any]]:
    """Yield the batches of an epoch from number ``start`` on, as pairs of arrays on ``device``."""
    if isinstance(data, DataLoader):
        batches = data.batches(epoch, start)
    else:
        batches = itertools.islice(data, start, None)
    with contextlib.closing(batches) if hasattr(batches, "close") else contextlib.nullcontext():
        for batch in batches:
            if not isinstance(batch, (tuple, list)) or len(batch) != 2:
                raise TypeError(f"a batch is {_kind(batch)}, expected a pair (input, target)")
            yield brought(batch[0], device), brought(batch[1], device)


def _kind(batch: Any) -> str:
    return f"a {type(batch).__name__}" + (f" of {len(batch)}" if hasattr(batch, "__len__") else "")
