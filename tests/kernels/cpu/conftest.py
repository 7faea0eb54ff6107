"""Programs of their own: what a test must not do to the process that runs it."""

import os
import subprocess
import sys

import pytest

SETTINGS = ("NNK_NUM_THREADS", "NUMBA_NUM_THREADS", "NUMBA_THREADING_LAYER")


def start(program, *arguments, **environment):
    """A Python process that runs the program text; an environment variable given as None is unset."""
    environment = {**os.environ, **dict.fromkeys(SETTINGS), **environment}
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)], text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env={k: str(v) for k, v in environment.items() if v is not None})


def finish(process, timeout=120):
    """What the process printed; it must have ended well, in time, and without a complaint."""
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        raise AssertionError(f"the program hangs; so far: {process.communicate()}") from None
    assert (process.returncode, err) == (0, "")
    return out.strip()


@pytest.fixture
def python():
    """python(program, *arguments, **environment): run it, return what it printed."""
    return lambda program, *arguments, **environment: finish(start(program, *arguments, **environment))
