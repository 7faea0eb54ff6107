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


def _holder(name: str, *modules: str) -> Any:
    """The first of these modules that has this name: older versions borrow from Numba itself."""
    for module in modules[:-1]:
        try:
            found = import_module(module)
        except ImportError:
            continue
        if hasattr(found, name):
            return found
    return import_module(modules[-1])


types = _holder("float32", "numba.cuda.types", "numba.core.types")

if not SIMULATED:
    intrinsic = _holder("intrinsic", "numba.cuda.extending", "numba.core.extending").intrinsic
    signature = _holder("signature", "numba.cuda.typing", "numba.core.typing").signature


def device(function: Callable) -> Callable:
    """Decorator: a function that kernels call, inlined into them; in the simulator the plain function."""
    if not SIMULATED:
        return cuda.jit(device=True, inline="always")(function)
    return cuda.jit(device=True)(function) if "cuda" in function.__code__.co_names else function
