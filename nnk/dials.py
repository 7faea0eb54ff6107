"""Numbers that change from step to step, kept where a captured CUDA graph reads them anew.

A graph repeats launches with the arguments they were captured with. So what differs between steps, a learning rate, the
number of the step, the call number of a kernel that draws, is asked for through `dial`:

    lr = dial(lambda: group["lr"])

As a rule that is the number. While a step is captured it is a 0-d array on the device, and the function is kept:
`Dials.turn` calls all of them in the order of capture and writes their answers into these arrays, before each replay. A
function that counts up as it is called so counts in every step, captured or not.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from nnk import backend

__all__ = ["CannotCapture", "Dials", "dial", "only_eager"]

MOST = 512  # numbers of one step


class CannotCapture(RuntimeError):
    """A step holds what a CUDA graph cannot repeat."""


class _Thread(threading.local):
    dials: Dials | None = None


_thread = _Thread()


def dial(read: Callable[[], Any], dtype: str = "float32") -> Any:
    """Return ``read()``; while a step is captured, a 0-d array of `dtype` that holds it in every replay."""
    return read() if _thread.dials is None else _thread.dials.add(read, dtype)


def only_eager(what: str) -> None:
    """Raise CannotCapture while a step is captured: `what` uses numbers of this moment on the host."""
    if _thread.dials is not None:
        raise CannotCapture(f"{what} computes on the host in every step")


class Dials:
    """The numbers of one captured step, in slots of 8 bytes on the device."""

    def __init__(self) -> None:
        self.slots = backend.asarray_on(np.zeros(MOST, np.int64), "cuda")
        self.reads: list[tuple[Callable[[], Any], str]] = []

    def add(self, read: Callable[[], Any], dtype: str) -> Any:
        """Return the 0-d array that will hold what `read` returns."""
        place = len(self.reads)
        if place == MOST:
            raise CannotCapture(f"the step has more than {MOST} numbers that change")
        self.reads.append((read, dtype))
        return self.slots[place : place + 1].view(dtype)[:1].reshape(())

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Let `dial` give slots inside the block, in this Python thread."""
        _thread.dials = self
        try:
            yield
        finally:
            _thread.dials = None

    def turn(self) -> None:
        """Read all numbers and queue their way to the slots."""
        bits = (np.array(read(), dtype).tobytes() for read, dtype in self.reads)
        values = [int.from_bytes(held, sys.byteorder, signed=True) for held in bits]
        if values:
            backend.kernels("cuda._slots").write(self.slots, values)
