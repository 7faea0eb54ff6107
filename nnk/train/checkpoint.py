"""Checkpoints: a tree of arrays and plain values as one safetensors file, which runs no code when it is read.

The arrays are the file's tensors, named by their path in the tree ("model.0.weight"). The tree around them is
JSON in the file's metadata, with a reference in place of each array:

    {"$array": "model.0.weight"}     an array
    {"$tuple": [...]}                a tuple
    {"$dict": [[key, value], ...]}   a dict whose keys are not all strings
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from nnk.backend import asarray_on
from nnk.serialization import replacing

KEY = "nnk.checkpoint"
FORMAT = 1


class CheckpointError(RuntimeError):
    """A checkpoint cannot be read, or does not belong to the run that wants to continue from it."""


def write_checkpoint(path: str | Path, tree: dict[str, Any]) -> None:
    """Write ``tree`` (dicts, lists, tuples, arrays, numbers, strings, booleans, None) in one piece.

    Numbers come back exactly, NaN and inf included. Raises TypeError for a value that is none of these, OSError when
    the file cannot be written; an old one at ``path`` is still whole then.
    """
    from safetensors.numpy import save as to_bytes

    tensors: dict[str, np.ndarray] = {}
    outline = _take_out(tree, "", tensors)
    with replacing(path) as temporary:
        temporary.write_bytes(to_bytes(tensors, {KEY: json.dumps({"format": FORMAT, "tree": outline})}))


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Return the tree that `write_checkpoint` wrote.

    Raises CheckpointError if there is no such file, or it is truncated, damaged, no checkpoint of nnk, or one of
    a newer format.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}")
    try:
        with safe_open(path, "numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"checkpoint {path} is truncated or damaged: {error}") from error
    if KEY not in metadata:
        raise CheckpointError(f"{path} is a safetensors file, but no checkpoint of nnk")
    try:
        header = json.loads(metadata[KEY])
        if header["format"] != FORMAT:
            raise CheckpointError(
                f"checkpoint {path} has format {header['format']}, this version of nnk reads format {FORMAT}"
            )
        return _put_back(header["tree"], tensors)
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"checkpoint {path} is damaged: {error!r}") from error


def _take_out(value: Any, path: str, tensors: dict[str, np.ndarray]) -> Any:
    """Return ``value`` as JSON, its arrays moved into ``tensors``."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if hasattr(value, "dtype"):
        # safetensors writes the bytes as they lie: any order but C would come back with wrong values.
        tensors[path] = np.asarray(asarray_on(value, "cpu"), order="C")
        return {"$array": path}
    prefix = f"{path}." if path else ""
    if isinstance(value, (list, tuple)):
        items = [_take_out(item, f"{prefix}{i}", tensors) for i, item in enumerate(value)]
        return items if isinstance(value, list) else {"$tuple": items}
    if isinstance(value, dict):
        pairs = [(key, _take_out(item, f"{prefix}{key}", tensors)) for key, item in value.items()]
        return dict(pairs) if all(isinstance(key, str) for key in value) else {"$dict": pairs}
    raise TypeError(f"a checkpoint cannot hold {path}: {type(value).__name__}")


def _put_back(value: Any, tensors: dict[str, np.ndarray]) -> Any:
    if isinstance(value, list):
        return [_put_back(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"$array"}:
        return tensors[value["$array"]]
    if value.keys() == {"$tuple"}:
        return tuple(_put_back(value["$tuple"], tensors))
    if value.keys() == {"$dict"}:
        return {key: _put_back(item, tensors) for key, item in value["$dict"]}
    return {key: _put_back(item, tensors) for key, item in value.items()}
