"""Which CPU kernels there are to compile ahead; see `kernels/warming.py`."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from .. import warming
from ..ops import OPS
from . import _cache
from ._compile import Native, natives
from ._driver import get_num_threads

_MOST_PROCESSES = 8  # each takes some 200 MB


def every() -> list[Native]:
    """All that is compiled for the operations of the registry: importing their files declares it."""
    for op in OPS:
        import_module(f".{op.file}", __package__)
    return [native for native in natives if native.is_kept]


def missing() -> list[Native]:
    """What is not on disk yet, the longest functions first."""
    absent = [native for native in every() if _cache.read(native.name) is None]
    return sorted(absent, key=lambda native: len(native.function.__code__.co_code), reverse=True)


def warm(report: Callable[[str], None]) -> None:
    """Compile what is missing; `report` hears each name when it is done."""
    warming.warm({native.name: native.prepare for native in missing()}, _prepare,
                 min(get_num_threads(), _MOST_PROCESSES), report)


def _prepare(name: str) -> None:
    next(native for native in every() if native.name == name).prepare()
