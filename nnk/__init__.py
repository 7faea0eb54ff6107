"""nnk: train convolutional networks with handwritten Numba kernels, on a CPU or a GPU.

Everything is reached from here and imported at first use: ``import nnk`` itself imports nothing heavy.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nnk import backend, cuda, data, models, nn, optim, random, serialization, testing, train
    from nnk.backend import (
        empty_cache,
        get_num_threads,
        get_precision,
        set_num_threads,
        set_precision,
        use_backend,
    )
    from nnk.nn.pending import no_grad
    from nnk.random import manual_seed
    from nnk.serialization import load, save

_HOMES = {
    "empty_cache": "backend",
    "get_num_threads": "backend",
    "get_precision": "backend",
    "load": "serialization",
    "manual_seed": "random",
    "no_grad": "nn.pending",
    "save": "serialization",
    "set_num_threads": "backend",
    "set_precision": "backend",
    "use_backend": "backend",
}
_MODULES = (
    "backend",
    "cuda",
    "data",
    "models",
    "nn",
    "optim",
    "random",
    "serialization",
    "testing",
    "train",
)

__all__ = [
    "backend",
    "cuda",
    "data",
    "empty_cache",
    "get_num_threads",
    "get_precision",
    "load",
    "manual_seed",
    "models",
    "nn",
    "no_grad",
    "optim",
    "random",
    "save",
    "serialization",
    "set_num_threads",
    "set_precision",
    "testing",
    "train",
    "use_backend",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"nnk.{name}")
    if name in _HOMES:
        value = getattr(importlib.import_module(f"nnk.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    if name == "__version__":
        from importlib.metadata import version

        return version("nnk")
    raise AttributeError(f"module 'nnk' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, "__version__"})
