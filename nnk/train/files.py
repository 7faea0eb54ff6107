"""The files and folders of runs."""

from __future__ import annotations

from pathlib import Path

from nnk.serialization import replacing

CHECKPOINT = "checkpoint.safetensors"
CONFIG = "config.json"
CURVES = "curves.png"
HISTORY = "history.csv"
MODEL = "model.safetensors"


def write_text(path: str | Path, text: str) -> None:
    """Write a text file of which a crash leaves the old one or the new one, never a part."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def drop_leftovers(folder: Path) -> None:
    """Delete temporary files of a process that was killed inside `replacing`."""
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
