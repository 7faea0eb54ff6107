"""Every operation's smallest case on the GPU, in float32 and float16; what compute-sanitizer watches.

    compute-sanitizer --tool memcheck python bench/gpu_sanitizer.py

Each array has memory of its own, not from CuPy's pool, so that the first byte beside one is noticed.
"""

from __future__ import annotations

import sys
from importlib import import_module

import numpy as np

from nnk import backend
from nnk.kernels import parity
from nnk.kernels.cases._suite import Case
from nnk.kernels.ops import OPS

DTYPES = (np.float32, np.float16)


def size(case: Case) -> int:
    """How many numbers go into a case."""

    def of(value: object) -> int:
        return sum(map(of, value)) if isinstance(value, list) else getattr(value, "size", 0)

    return sum(map(of, case.make(np.random.default_rng(0)).values()))


def main() -> int:
    """Run them all; 1 if a result is wrong."""
    backend.require_cuda()
    import_module("cupy").cuda.set_allocator(None)
    kernels, wrong = backend.kernels("cuda"), 0
    for op in OPS:
        case = min(op.suite.cases, key=size)
        for dtype in DTYPES:
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
