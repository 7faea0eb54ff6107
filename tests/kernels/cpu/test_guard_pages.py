"""Every CPU kernel between guard pages: an access one element outside an array, or a read before a write, is found.

The kernels run in a process of their own, where every input, output and workspace ends at a page that cannot be
touched, or begins behind one, and is full of NaN before it is written. A stray access ends that process; the last line
that it printed names the case.
"""

import ctypes
import faulthandler
import mmap
import os
import subprocess
import sys

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided

from nnk.kernels import cpu, parity
from nnk.kernels.cpu import _memory
from nnk.kernels.ops import OPS

PAGE = mmap.PAGESIZE


def fenced(nbytes, side):
    """Bytes that end at a forbidden page (side "end") or begin behind one ("start")."""
    inner = -(-nbytes // PAGE) * PAGE
    area = mmap.mmap(-1, inner + 2 * PAGE)
    first = np.frombuffer(area, np.uint8)  # keeps the area mapped
    for page in (0, PAGE + inner):
        if ctypes.CDLL(None, use_errno=True).mprotect(ctypes.c_void_p(first.ctypes.data + page), PAGE, 0):
            raise OSError(ctypes.get_errno(), "mprotect failed")
    begin = PAGE if side == "start" else PAGE + inner - nbytes
    return first[begin : begin + nbytes]


def fence_inputs(value, side):
    """Arguments like these, their arrays copied between guard pages in the same memory order."""
    if isinstance(value, list):
        return [fence_inputs(item, side) for item in value]
    if not isinstance(value, np.ndarray) or not value.size:
        return value
    copy = as_strided(fenced(value.nbytes, side).view(value.dtype), value.shape, value.strides)
    copy[...] = value
    return copy


def run_fenced(op, side):
    """Every case of the op, in both layouts that its kernels take without a copy."""
    for case in op.suite.cases:
        for layout in ("native", "contiguous"):
            print(op.name, case.name, layout, flush=True)
            _memory.empty_cache()  # workspaces are as large as this case needs, not as an earlier one
            with np.errstate(all="ignore"):
                want, terms = parity.expected(op.suite, case, np.float32)
                inputs = parity.make_inputs(case, np.float32, layout)
                got = op.suite.run(cpu, **{name: fence_inputs(value, side) for name, value in inputs.items()})
            for name, result in want.items():
                excess = parity.excess(got[name], result, terms[name], np.float32)
                assert excess <= 1, f"{name} is wrong by {excess} tolerances"


@pytest.mark.skipif(os.name != "posix", reason="needs mprotect")
@pytest.mark.parametrize("side", ["start", "end"])
@pytest.mark.parametrize("file", sorted({op.file for op in OPS}))
def test_kernels_stay_inside_their_arrays(file, side):
    run = subprocess.run([sys.executable, __file__, file, side], capture_output=True, text=True, timeout=600)
    done = run.stdout.splitlines()
    assert run.returncode == 0, f"failed in {done[-1:]}\n{run.stderr}"
    assert len(done) >= 2


@pytest.mark.skipif(os.name != "posix", reason="needs mprotect")
@pytest.mark.parametrize(("side", "step"), [("end", 1), ("start", -1)])
def test_a_stray_access_is_found(side, step):
    program = (
        f"import sys; sys.path.insert(0, {os.path.dirname(__file__)!r})\n"
        "from test_guard_pages import fenced\n"
        "from nnk.kernels.cpu.activation import _relu_blocks\n"
        "import numpy as np\n"
        f"x = fenced(400, {side!r}).view(np.float32)\n"
        "y = np.empty(100, np.float32)\n"
        "_relu_blocks(1, x=x, y=y, n=100, past_caches=0)\n"
        "print('inside', flush=True)\n"
        f"_relu_blocks(1, x=x.ctypes.data + 4 * {step}, y=y, n=100, past_caches=0)\n"
        "print('outside')\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (run.returncode != 0, run.stdout.split()) == (True, ["inside"])


if __name__ == "__main__":
    faulthandler.enable()
    file, side = sys.argv[1:]
    _memory._block = lambda nbytes: (fenced(nbytes, side), ctypes.c_char * nbytes)
    _memory.poison(np.nan)
    for op in OPS:
        if op.file == file:
            run_fenced(op, side)
