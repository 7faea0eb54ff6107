"""Each channel of each sample multiplied by a number of its own, and the gradients.

The forward is that of `scale_shift.py` without a shift: 8 bytes an element of float32. The backward reads dy and x
once, sums their products and writes dx on the way, 12 bytes an element; a small kernel then adds up what the strips of
an image left (`_batchnorm.py`). The formulas are those of `kernels/reference/scale_channels.py`.
"""

from __future__ import annotations

from ._batchnorm import sum_strips, totals
from ._layout import Array, channels_last, deliver, empty_like_image, vector
from .scale_shift import scaled


def scale_channels(x: Array, scale: Array, *, out: Array | None = None) -> Array:
    """y[n, c] = scale[n, c] * x[n, c]: x (N, C, H, W), scale (N, C). Reads x, writes y."""
    return scaled(x, scale, None, out)


def scale_channels_backward(
    dy: Array, x: Array, scale: Array, *, out: tuple[Array, Array] | None = None
) -> tuple[Array, Array]:
    """dx = scale * dy, and dscale (N, C), the sums of dy * x over each channel. Reads dy and x, writes dx."""
    dx_out, dscale_out = out or (None, None)
    dy, x = channels_last(dy), channels_last(x)
    dx = empty_like_image(x)
    _, dscale = totals(*sum_strips(dy, x, None, None, scale=vector(scale), dx=dx, samples=x.shape[0]), x.shape[0])
    return deliver(dx, dx_out), deliver(dscale.astype(scale.dtype, copy=False), dscale_out)
