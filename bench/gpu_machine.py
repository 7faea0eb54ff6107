"""Prints the GPU, its driver, and the versions of whatever takes part; fails where nnk cannot compute on a GPU.

    python bench/gpu_machine.py
"""

from __future__ import annotations

import sys

import record
from gpu import Gpu

from nnk import backend


def main() -> int:
    """Print them."""
    print(", ".join(f"{package} {version}" for package, version in record.versions().items()))
    problem = backend.cuda_problem()
    if problem:
        print(f"no GPU to measure: {problem}")
        return 1
    print(", ".join(f"{name} {value}" for name, value in Gpu().facts().items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
