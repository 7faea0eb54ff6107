"""Ctrl-C while a model trains: the step is finished and saved before the program stops."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from types import FrameType
from typing import Any

NOTICE = b"\nstopping after this step (Ctrl-C again stops at once)\n"


class Interrupt:
    """Inside ``with Interrupt() as interrupt``, Ctrl-C sets ``interrupt.requested``; a second one raises.

    Only Python's main thread gets signals; in any other this does nothing. A process that ignores Ctrl-C
    (``nohup``, a background job) goes on ignoring it.
    """

    def __init__(self) -> None:
        self.requested = False
        self._before: Any = None

    def __enter__(self) -> Interrupt:
        in_main = threading.current_thread() is threading.main_thread()
        if in_main and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            self._before = signal.signal(signal.SIGINT, self._on_signal)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        # Not print: the signal may have come in the middle of one, and a buffered stream refuses to be re-entered.
        with contextlib.suppress(OSError):
            os.write(2, NOTICE)
