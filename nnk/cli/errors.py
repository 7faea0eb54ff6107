"""What a command says when it cannot do what was asked."""

from __future__ import annotations


class CommandError(Exception):
    """Ends the command with one line on standard error and an exit code."""

    def __init__(self, message: str, code: int = 2):
        super().__init__(message)
        self.code = code
