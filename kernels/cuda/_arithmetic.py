"""Which arithmetic a product of matrices gets, by dtype, precision and compute capability.

    array      precision    from 8.0 on       7.5
    float32    "highest"    strict float32    strict float32
    float32    "high"       TF32              strict float32
    float32    "medium"     bfloat16          strict float32
    float16    any          float16           float16
    bfloat16   any          bfloat16          (not supported)

All sums are float32. As in PyTorch, a card without TF32 or bfloat16 computes float32 arrays in float32: a precision
allows faster arithmetic, it does not ask for it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ._numba import SIMULATED
from .launch import current_device, device_capability

SIMULATED_CAPABILITY = (8, 0)


def capability() -> tuple[int, int]:
    """The compute capability of the current device."""
    return SIMULATED_CAPABILITY if SIMULATED else device_capability(current_device())


def factors(dtype: np.dtype, precision: str, capability: tuple[int, int]) -> Any:
    """The dtype in which tensor cores take both factors (float32 stands for TF32), or None: strict float32."""
    if dtype != np.float32:
        return dtype
    if capability < (8, 0) or precision == "highest":
        return None
    return dtype if precision == "high" else bfloat16()


def bfloat16() -> np.dtype:
    """The dtype, which NumPy and CuPy have from ml_dtypes."""
    from ml_dtypes import bfloat16

    return np.dtype(bfloat16)
