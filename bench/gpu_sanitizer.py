"""Every operation's small cases on the GPU, in float32 and float16; what compute-sanitizer watches.

    compute-sanitizer --tool memcheck python bench/gpu_sanitizer.py

Each array has memory of its own, not from CuPy's pool, so that the first byte beside one is noticed.
"""

from __future__ import annotations

import itertools
import sys
from importlib import import_module
from typing import Any

import numpy as np

from nnk import backend
from nnk.kernels import parity
from nnk.kernels.ops import OPS

DTYPES = (np.float32, np.float16)
SMALL = 2000  # numbers


def small(case: Any) -> bool:
    """Whether few numbers go into a case, but some into each of its arrays: nothing runs for none."""
    values = case.make(np.random.default_rng(0)).values()
    arrays = [array for value in values for array in (value if isinstance(value, list) else [value])]
    sizes = [array.size for array in arrays if isinstance(array, np.ndarray)]
    return min(sizes) > 0 and sum(sizes) <= SMALL


def main() -> int:
    """Run them all; 1 if a result is wrong."""
    backend.require_cuda()
    import_module("cupy").cuda.set_allocator(None)
    kernels, wrong = backend.kernels("cuda"), 0
    for op in OPS:
        cases = list(filter(small, op.suite.cases)) or op.suite.cases[:1]
        for case, dtype in itertools.product(cases, DTYPES):
            errors = parity.compare(
                op.suite, case, kernels, dtype,
                send=lambda x: backend.asarray_on(x, "cuda"), fetch=lambda x: backend.asarray_on(x, "cpu"),
            )  # fmt: skip
            right = max(errors.values()) <= 1
            wrong += not right
            verdict = "ok" if right else f"WRONG: {errors}"
            print(f"{op.name:28} {case.name:28} {np.dtype(dtype).name:8} {verdict}", flush=True)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
