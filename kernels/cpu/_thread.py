"""What a Python thread says of itself; needs no Numba, so that a thread can say it before there are kernels."""

from __future__ import annotations

import threading


class _Thread(threading.local):
    alone = False  # kernels called from this thread run on it alone, set before the first of them


thread = _Thread()


def work_alone() -> None:
    """Let this Python thread, which has called no kernel yet, use no other cores than the one it runs on.

    For threads that work beside others: two that wake all cores at once mostly wait for each other.
    """
    thread.alone = True
