"""What every optimiser does to a gradient before its own formula; see `kernels/reference/_gradient.py`.

Numbers that change from step to step (a learning rate, the step's number, the scale of clipped gradients) may be Python
numbers or 0-d arrays on the device. An array is read by the kernel, so that a captured CUDA graph replays with what it
holds by then. So is `skip`, int32: unless it is None or holds 0, the kernel changes nothing. It is read with the first
elements, not before them, so it costs no time.
"""

from __future__ import annotations

from typing import Any

from ._layout import Array
from ._math import ZERO, clip, fma
from ._memory import xp
from ._numba import device
from .launch import F32, FLOAT, I32, INT
from .ptx import given

GRADIENT = {"scale": FLOAT, "scale_at": F32, "maximize": INT, "limit": FLOAT, "weight_decay": FLOAT, "l1": FLOAT,
            "skip": I32}
"""The last arguments of a kernel that calls `gradient`."""


# ---------------------------------------------------------------- inside kernels
@device
def number(value, at):
    """A number that was passed by value, or that lies on the device."""
    return at[0] if given(at) else value


@device
def skipped(skip):
    """Whether this update is to be left out."""
    return given(skip) and skip[0] != 0


@device
def bounded(g, limit):
    """g brought into ±limit, unless limit is 0; NaN stays."""
    return clip(g, -limit, limit) if limit != ZERO else g


@device
def gradient(g, p, scale, limit, weight_decay, l1):
    """The gradient that the optimiser's formula starts from, for a parameter p; `scale` has the sign."""
    g = bounded(scale * g, limit)
    if weight_decay != ZERO:
        g = fma(weight_decay, p, g)
    if l1 != ZERO:
        g += l1 if p > ZERO else -l1 if p < ZERO else l1 * p
    return g


# ---------------------------------------------------------------- calls
def passed(value: Any, dtype: str = "float32") -> tuple[float, Array | None]:
    """A Python number, or a 0-d array of the device, as a kernel takes it: value and pointer."""
    if isinstance(value, xp().ndarray):
        return 0.0, value if value.dtype == dtype else value.astype(dtype)
    return float(value), None


def options(
    maximize: bool, weight_decay: float, l1: float, grad_scale: float | Array, clip_value: float,
    skip: Array | None,
) -> tuple[Any, ...]:
    """The arguments named in GRADIENT."""
    return *passed(grad_scale), maximize, clip_value, weight_decay, l1, skip
