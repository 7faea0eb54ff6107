"""Every op on every backend against the float64 reference, in every memory layout."""

from functools import cache
from importlib import import_module

import numpy as np
import pytest

from nnk.kernels import parity
from nnk.kernels.ops import OPS

BACKENDS = ("reference", "cpu")  # the reference in float32 too: it must stay in its dtype, and stable
RUNS = [
    pytest.param(op, case, layout, id=f"{op.name}-{case.name}-{layout}")
    for op in OPS
    for case in op.suite.cases
    for layout in op.suite.layouts
]


@cache
def expected(op_name, suite, case):
    with np.errstate(invalid="ignore"):
        return parity.expected(suite, case, np.float32)


@pytest.mark.parametrize(("op", "case", "layout"), RUNS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_agrees_with_the_reference(op, case, layout, backend, guarded):
    want, terms = expected(op.name, op.suite, case)
    kernels = guarded(import_module(f"nnk.kernels.{backend}"), op)
    with np.errstate(invalid="ignore"):
        got = op.suite.run(kernels, **parity.make_inputs(case, np.float32, layout))
    assert got.keys() == want.keys()
    excess = {name: parity.excess(got[name], want[name], terms[name], np.float32) for name in want}
    assert max(excess.values()) <= 1, f"error over tolerance: {excess}"
