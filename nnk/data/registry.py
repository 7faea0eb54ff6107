"""Data sets by name, as the command line asks for them."""

from __future__ import annotations

from .datasets import ArrayDataset
from .digits import digits

LOADERS = {"digits": digits}


def names() -> list[str]:
    """Names that `load` knows."""
    return sorted(LOADERS)


def load(name: str) -> tuple[ArrayDataset, ArrayDataset]:
    """Load the data set called ``name`` as ``(train, test)``.

    Raises:
        ValueError: an unknown name.
        ModuleNotFoundError: the data set needs a package that is not installed.
    """
    if name not in LOADERS:
        raise ValueError(f"unknown data {name!r}, known are: {', '.join(names())}")
    return LOADERS[name]()
