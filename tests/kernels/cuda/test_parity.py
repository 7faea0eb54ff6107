"""Every op's CUDA kernels against the float64 reference: in the simulator on small cases, on a GPU on all of them
and on a shape of the benches."""

from functools import cache

import numpy as np
import pytest

from nnk.kernels import parity
from nnk.kernels.cuda import ROUNDOFFS
from nnk.kernels.cuda._numba import SIMULATED
from nnk.kernels.ops import OPS

SMALL = 6000  # elements of all inputs of a case: what the simulator does in a blink


def size(case):
    def of(value):
        if isinstance(value, (list, tuple)):
            return sum(map(of, value))
        return value.size if isinstance(value, np.ndarray) else 0

    return sum(map(of, case.make(np.random.default_rng(0)).values()))


def runs():
    for op in OPS:
        if not SIMULATED and "params" not in op.mutates.get(op.functions[0], ()):  # optimisers have large cases
            yield pytest.param(op, op.suite.bench[0], "native", id=f"cuda-{op.name}-bench")
        for number, case in enumerate(op.suite.cases):
            if SIMULATED and size(case) > SMALL:
                continue
            for layout in op.suite.layouts if number == 0 or not SIMULATED else op.suite.layouts[:1]:
                yield pytest.param(op, case, layout, id=f"cuda-{op.name}-{case.name}-{layout}")


@cache
def expected(op_name, suite, case):
    with np.errstate(all="ignore"):
        return parity.expected(suite, case, np.float32)


@pytest.mark.parametrize(("op", "case", "layout"), list(runs()))
def test_agrees_with_the_reference(op, case, layout, cuda_kernels, guarded):
    want, terms = expected(op.name, op.suite, case)
    kernels = guarded(cuda_kernels, op)
    with np.errstate(all="ignore"):
        got = op.suite.run(kernels, **parity.make_inputs(case, np.float32, layout))
    assert got.keys() == want.keys()
    excess = {name: parity.excess(got[name], want[name], terms[name], np.float32, ROUNDOFFS) for name in want}
    assert max(excess.values()) <= 1, f"error over tolerance: {excess}"


@pytest.mark.parametrize("op", [pytest.param(op, id=f"cuda-{op.name}-float16") for op in OPS])
def test_halves_agree_with_the_reference(op, cuda_kernels, guarded):
    case = op.suite.cases[0]
    want, terms = parity.expected(op.suite, case, np.float16)
    got = op.suite.run(guarded(cuda_kernels, op), **parity.make_inputs(case, np.float16))
    excess = {name: parity.excess(got[name], want[name], terms[name], np.float16) for name in want}
    assert max(excess.values()) <= 1, f"error over tolerance: {excess}"
