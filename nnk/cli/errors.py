"""What a command says when it cannot do what was asked."""

from __future__ import annotations

import nnk


class CommandError(Exception):
    """Ends the command with one line on standard error and an exit code."""

    def __init__(self, message: str, code: int = 2):
        super().__init__(message)
        self.code = code


def num_threads() -> int:
    """Return the number of threads; a bad NNK_NUM_THREADS is the user's mistake."""
    try:
        return nnk.get_num_threads()
    except ValueError as error:
        raise CommandError(str(error)) from error
