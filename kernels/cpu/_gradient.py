"""What every optimiser does to a gradient before its own formula; see `kernels/reference/_gradient.py`."""

from __future__ import annotations

from ._compile import inner
from ._driver import FLOAT
from .simd import vcopysign, vfma, vload_n, vmax, vmin, vselect, vsplat

GRADIENT = {"scale": FLOAT, "limit": FLOAT, "weight_decay": FLOAT, "l1": FLOAT}  # arguments of a job that calls it


@inner
def bounded(g, limit):
    """g brought into ±limit, unless limit is 0; NaN stays."""
    return vmin(vmax(g, vsplat(-limit)), vsplat(limit)) if limit else g


@inner
def gradient(a, p, grad, i, n):
    """The gradient that the optimiser's formula starts from, for the parameters `p`."""
    g = bounded(a.scale * vload_n(grad, i, n), a.limit)
    if a.weight_decay:
        g = vfma(p, vsplat(a.weight_decay), g)
    if a.l1:
        g = g + vselect(p == 0, 0, vcopysign(vsplat(a.l1), p))
    return g


def options(
    maximize: bool, weight_decay: float, l1: float, grad_scale: float, clip_value: float
) -> dict[str, float]:
    """The arguments named in GRADIENT."""
    scale = float(-grad_scale if maximize else grad_scale)
    return {"scale": scale, "limit": clip_value, "weight_decay": weight_decay, "l1": l1}
