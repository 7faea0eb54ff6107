"""Weights in files: a `state_dict` as safetensors, which other libraries read and which runs no code when loaded."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nnk import backend

__all__ = ["load", "replacing", "save"]


def save(state_dict: Mapping[str, Any], path: str | os.PathLike) -> None:
    """Write named arrays, such as ``model.state_dict()``, into a safetensors file.

    `path` holds the old file or the whole new one at every moment, also when the process is killed.
    Raises TypeError when `state_dict` is no mapping of strings to arrays.
    """
    from safetensors.numpy import save as to_bytes

    if not isinstance(state_dict, Mapping):
        hint = ": pass its state_dict()" if hasattr(state_dict, "state_dict") else ""
        raise TypeError(f"state_dict is a {type(state_dict).__name__}, expected a mapping of names to arrays{hint}")
    tensors = {}
    for name, value in state_dict.items():
        if not isinstance(name, str):
            raise TypeError(f"state_dict has the key {name!r}, expected strings")
        # safetensors writes the bytes as they lie: any order but C would come back with wrong values.
        tensors[name] = np.asarray(backend.asarray_on(backend.as_array(value), "cpu"), order="C")
    with replacing(path) as temporary:
        # Not save_file: its files are readable by their owner alone, whatever the umask.
        temporary.write_bytes(to_bytes(tensors))


def load(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Return the named arrays of a safetensors file, for ``model.load_state_dict``.

    Raises FileNotFoundError when there is none, ValueError when it is truncated, damaged or another kind of file.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        return load_file(path)
    except (SafetensorError, KeyError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: it is truncated, damaged or no safetensors file ({error})") from error


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Give a temporary path beside `path`; what is written there takes the place of `path` at the end.

    The file is on the disk before its name changes, and the name before this returns. When the block raises, `path`
    stays as it was.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    if hasattr(os, "O_DIRECTORY"):  # where a folder can be opened, it can be synced
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
