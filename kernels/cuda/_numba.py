"""What the kernels take from numba-cuda, in one place: the probes for its versions; is it simulated?

Supported: numba-cuda 0.20 and newer. Only its public names are used.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from typing import Any

SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("", "0")
"""Whether kernels run in Numba's simulator, on NumPy arrays; Numba reads the same variable when it is imported."""

try:
    from numba import cuda
except ImportError as error:  # pragma: no cover - depends on what is installed
    raise ImportError(
        f"nnk's CUDA kernels need numba-cuda, which cannot be imported ({error}): "
        "python -m pip install 'nnk[cuda13]' (or 'nnk[cuda12]' for a driver of CUDA 12)"
    ) from error

if not hasattr(cuda, "compile"):
    raise ImportError(
        "nnk's CUDA kernels need numba-cuda 0.20 or newer; the numba.cuda found here has no cuda.compile: "
        "python -m pip install --upgrade 'nnk[cuda13]'"
    )


def _first(*names: str) -> Any:
    """The first of these modules that is there: older versions borrow them from Numba itself."""
    for name in names[:-1]:
        try:
            return import_module(name)
        except ImportError:
            continue
    return import_module(names[-1])


types = _first("numba.cuda.types", "numba.core.types")

if not SIMULATED:
    intrinsic = _first("numba.cuda.extending", "numba.core.extending").intrinsic
    signature = _first("numba.cuda.typing", "numba.core.typing").signature
    cgutils = _first("numba.cuda.cgutils", "numba.core.cgutils")


def device(function: Callable) -> Callable:
    """Decorator: a function that kernels call, inlined into them; in the simulator the plain function."""
    if not SIMULATED:
        return cuda.jit(device=True, inline="always")(function)
    return cuda.jit(device=True)(function) if "cuda" in function.__code__.co_names else function
