"""What `nnk tune` found fastest on a device: a table in the folder of the compiled kernels, as JSON.

    {"device": "NVIDIA H100 80GB HBM3", "stamp": "…", "rows": [{"kind": "product", "x": [64, 64, 56, 56], …,
     "best": "mma 128x64x3", "seconds": 0.000041, "default": "mma 128x128x3", "default_seconds": 0.000052}, …]}

A table is for the device of that name and for the sources with that stamp, so that whatever changes a kernel puts the
measurement of it aside. It is written under a temporary name and renamed.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ._arithmetic import bfloat16
from ._memory import xp
from ._numba import SIMULATED
from ._window import Axis
from .launch import store

Candidate = tuple[str, tuple[int, ...]]
"""A rung of the ladder of kernels and one of its tiles."""


class Work(NamedTuple):
    """A product as kernels get it: all that a choice depends on.

    `kind` is "product" or "wgrad", or with "strict " before it, without tensor cores; x is what is gathered, y what is
    filled: images, for a gradient the weight. `x_dtype` is that in which x is multiplied, `y_dtype` that of y. What is
    done to the sums at last does not matter.
    """

    kind: str
    x_dtype: np.dtype
    y_dtype: np.dtype
    groups: int
    x: tuple[int, int, int, int]
    y: tuple[int, int, int, int]
    window: tuple[Axis, Axis]

    def __str__(self) -> str:
        h, w = self.window
        dtypes = self.x_dtype.name + (f" to {self.y_dtype.name}" if self.y_dtype != self.x_dtype else "")
        groups = f", {self.groups} groups" if self.groups > 1 else ""
        step = f" / {h.step}x{w.step}" if (h.step, w.step) != (1, 1) else ""
        shapes = [" x ".join(map(str, shape)) for shape in (self.x, self.y)]
        return f"{self.kind} {dtypes}: {shapes[0]} by {h.taps}x{w.taps}{step} to {shapes[1]}{groups}"


class Row(NamedTuple):
    """The fastest candidate for a work, and the one that runs without a table."""

    best: Candidate
    seconds: float
    default: Candidate
    default_seconds: float


def shown(candidate: Candidate) -> str:
    """As people read it: `mma 128x64x3`."""
    return f"{candidate[0]} {'x'.join(map(str, candidate[1]))}"


def device_name(device: int) -> str:
    """What the maker calls it."""
    return "simulator" if SIMULATED else xp().cuda.runtime.getDeviceProperties(device)["name"].decode()


def path(device: str) -> Path | None:
    """Where the table of a device is, or would be; None where no folder can be written."""
    name = f"tuned-{re.sub(r'[^A-Za-z0-9]+', '-', device).strip('-')}.json"
    there = (place / name for place in store.places() if (place / name).exists())
    folder = store.folder()
    return next(there, folder / name if folder else None)


def read(device: str, suits: Callable[[Work, Candidate], bool]) -> dict[Work, Row]:
    """The table of a device; an empty one, with a warning, where there is a file that is none.

    Every row is looked at: `suits(work, candidate)` tells whether that kernel can compute that.
    """
    file = path(device)
    if file is None or not file.exists():
        return {}
    try:
        found = json.loads(file.read_text())
        if (found["device"], found["stamp"]) != (device, store.stamp()):
            raise ValueError(f"it is of {found['device']} and {found['stamp']}, not {device} and {store.stamp()}")
        table = dict(map(_row, found["rows"]))
        for work, row in table.items():
            for candidate in (row.best, row.default):
                if not suits(work, candidate):
                    raise ValueError(f"{shown(candidate)} cannot compute {work}")
    except (OSError, ValueError, TypeError, KeyError, AttributeError, ArithmeticError) as error:
        warnings.warn(f"{file} is no table of nnk tune for this device, so it is ignored; "
                      f"nnk tune --clear deletes it ({type(error).__name__}: {error})", stacklevel=2)
        return {}
    return table


def write(device: str, table: dict[Work, Row]) -> Path:
    """Replace the table of a device; return where it is. Raises OSError where that cannot be written."""
    folder = store.folder()
    if folder is None:
        raise OSError("no folder of this user's own can be written: name one with NUMBA_CACHE_DIR")
    folder.mkdir(mode=0o700, exist_ok=True)  # somebody may have cleared the cache
    file = folder / path(device).name
    rows = ",\n  ".join(json.dumps(row) for row in map(_json, table.items()))
    head = json.dumps({"device": device, "stamp": store.stamp()})
    handle, part = tempfile.mkstemp(prefix="part-", dir=folder)
    try:
        with os.fdopen(handle, "w") as out:
            out.write(f'{head[:-1]}, "rows": [\n  {rows}\n]}}\n')
        os.replace(part, file)
    except OSError:
        os.unlink(part)
        raise
    return file


def clear() -> list[Path]:
    """Delete the tables of all devices, those of other sources included; return where they were."""
    found = {file for place in store.places() for file in place.parent.glob(f"{store.kind}-*/tuned-*.json")}
    for file in found:
        with contextlib.suppress(FileNotFoundError):
            file.unlink()
    return sorted(found)


def _json(item: tuple[Work, Row]) -> dict[str, Any]:
    work, row = item
    h, w = (axis._asdict() for axis in work.window)
    return {
        "kind": work.kind, "x": work.x, "x_dtype": work.x_dtype.name, "y": work.y, "y_dtype": work.y_dtype.name,
        "groups": work.groups, "best": shown(row.best), "seconds": row.seconds, "default": shown(row.default),
        "default_seconds": row.default_seconds, "h": h, "w": w,
    }  # fmt: skip


def _row(found: dict[str, Any]) -> tuple[Work, Row]:
    def numbers(values: Iterable) -> tuple[int, ...]:
        return tuple(map(int, values))

    def candidate(name: str) -> Candidate:
        rung, tile = name.split(" ")
        return rung, numbers(tile.split("x"))

    dtypes = [bfloat16() if found[name] == "bfloat16" else np.dtype(found[name]) for name in ("x_dtype", "y_dtype")]
    window = tuple(Axis(**{name: int(value) for name, value in found[axis].items()}) for axis in "hw")
    work = Work(found["kind"], *dtypes, int(found["groups"]), numbers(found["x"]), numbers(found["y"]), window)
    return work, Row(candidate(found["best"]), float(found["seconds"]), candidate(found["default"]),
                     float(found["default_seconds"]))
