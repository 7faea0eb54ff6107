"""Programs of their own: what a test must not do to the process that runs it."""

import os
import signal
import subprocess
import sys

import pytest

SETTINGS = ("NNK_NUM_THREADS", "NUMBA_NUM_THREADS", "NUMBA_THREADING_LAYER")


class Python:
    """python(program, *arguments, **environment) runs a program and returns what it printed."""

    def start(self, program, *arguments, **environment):
        """A Python process that runs the program text; thread settings are unset unless given."""
        inherited = {name: value for name, value in os.environ.items() if name not in SETTINGS}
        given = {name: str(value) for name, value in environment.items()}
        return subprocess.Popen(
            [sys.executable, "-c", program, *map(str, arguments)], text=True, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, env=inherited | given, start_new_session=True)

    def finish(self, process, timeout=120):
        """What the process printed; it must have ended well, in time, and without a complaint."""
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            if hasattr(os, "killpg"):
                os.killpg(process.pid, signal.SIGKILL)  # its children too: they may hold the pipes open
            process.kill()
            raise AssertionError(f"the program hangs; so far: {process.communicate()}") from None
        assert (process.returncode, err) == (0, "")
        return out.strip()

    def __call__(self, program, *arguments, **environment):
        return self.finish(self.start(program, *arguments, **environment))


@pytest.fixture
def python():
    return Python()
