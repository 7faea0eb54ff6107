"""The files of a run, and writing them so that a crash at any moment leaves the old file or the new one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

CHECKPOINT = "checkpoint.safetensors"
CONFIG = "config.json"
CURVES = "curves.png"
HISTORY = "history.csv"
MODEL = "model.safetensors"


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; what is written there takes the place of ``path`` at the end.

    The file is on the disk before its name changes, and the name before this returns. When the block raises,
    ``path`` stays as it was.
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


def write_text(path: str | Path, text: str) -> None:
    """Write a text file in one piece."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def drop_leftovers(folder: Path) -> None:
    """Delete temporary files of a process that was killed while it wrote."""
    for temporary in folder.glob(".*.tmp"):
        temporary.unlink(missing_ok=True)


def holds_run(folder: Path) -> bool:
    """Whether a folder holds a run, finished or not."""
    return (folder / CHECKPOINT).exists() or (folder / CONFIG).exists()


def new_run_dir(base: str | Path, name: str) -> Path:
    """Make and return the first free folder of ``<base>/<name>-1``, ``<base>/<name>-2``, …"""
    base = Path(base)
    base.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        folder = base / f"{name}-{number}"
        try:
            folder.mkdir()  # fails where another process was faster, so no two runs share a folder
            return folder
        except FileExistsError:
            number += 1
