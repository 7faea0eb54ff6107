"""Two-dimensional convolution and its gradients; formulas in `kernels/reference/conv2d.py`.

Images are channels-last. Convolutions are matrix products over gathered pixels, in strict float32 (`_implicit_gemm.py`,
`_wgrad.py`; of 3 × 3 also `_winograd.py`) or on tensor cores: `_arithmetic.py` tells by dtype and `precision` which,
`_chooser.py` on which rung of the ladder of kernels (`_mma_gemm.py`, `_wgmma_gemm.py`, `_tma_gemm.py`; `_mma_wgrad.py`,
`_tma_wgrad.py`); windows of more than 15 taps on an axis slide in float32 as well. Images of up to four channels have
kernels of their own (`_first_layer*.py`). The gradient to the input is forward convolutions of dy with the weight
transposed, one for each residue of the stride, see `_window.py`. With one channel a group convolutions are memory bound
and go to `_depthwise.py`, in float32.

What follows the products costs no pass of its own: scale, bias, residual sum and ReLU are done in registers. All
rungs can also leave, with tiles of M pixels, the count, mean and sum of squared deviations of each channel in every M
of y's pixels (`_moments.py`), those of first layers in every tile, those of Winograd in every few, and so do depthwise
kernels: batch norm then need not read y for them.

Roofline: 2 N P Q K (C/G) R S operations, at the card's rate for multiply-adds of the factors' type.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..shapes import conv_output_size
from . import _arithmetic, _depthwise
from ._channel_sums import channel_sums
from ._chooser import PRODUCTS, WGRADS, choice, operands, statistics_lots, wgrad_operands
from ._gather import fits
from ._layout import Array, channels_last, contiguous, deliver, empty_image, vector
from ._memory import empty
from ._moments import Statistics
from ._operands import images
from ._window import Axis, dgrad_windows, forward_axis

FLOAT32 = np.dtype(np.float32)
Pair = tuple[int, int]
Padding = tuple[int | Pair, int | Pair]


def conv2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: Pair = (1, 1),
    padding: Padding = (0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
    precision: str = "highest",
    scale: Array | None = None,
    activation: str | None = None,
    residual: Array | None = None,
    statistics: bool = False,
    keep_packed: bool = False,
    out: Array | tuple[Array, None] | None = None,
) -> Array | tuple[Array, Statistics | None]:
    """y = act(scale · (x ⋆ weight) + bias + residual): (N, C, H, W), (K, C/G, R, S), (K,) → (N, K, P, Q).

    `activation` is None or "relu". With `statistics` the result is (y, those of its channels, or None). The packed
    weight is never kept: packing is one small kernel.
    """
    taps = weight.shape[2:]
    count = tuple(map(conv_output_size, x.shape[2:], taps, stride, padding, dilation))
    x, y = channels_last(x), empty_image(len(x), len(weight), *count, x.dtype)
    scale, bias, rectify, left = vector(scale), vector(bias), activation == "relu", None
    residual = None if residual is None else channels_last(residual)
    if weight.shape[1] == 1 and groups > 1:
        left = _depthwise.forward(x, contiguous(weight), y, stride, padding, dilation, scale, bias, rectify, residual,
                                  statistics)
    else:
        window = tuple(map(forward_axis, count, taps, stride, padding, dilation))
        left = _convolve(x, weight, y, groups, [window], False, precision, scale, bias, rectify, residual,
                         statistics=statistics)
    return (deliver(y, out and out[0]), left) if statistics else deliver(y, out)


def conv2d_dgrad(
    dy: Array,
    weight: Array,
    x_shape: tuple[int, int, int, int],
    *,
    stride: Pair = (1, 1),
    padding: Padding = (0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
    precision: str = "highest",
    out: Array | None = None,
) -> Array:
    """The gradient to the input: dy (N, K, P, Q), weight (K, C/G, R, S), x_shape = (N, C, H, W) → dx (N, C, H, W)."""
    dy, dx = channels_last(dy), empty_image(*x_shape, dy.dtype)
    if weight.shape[1] == 1 and groups > 1:
        _depthwise.dgrad(dy, contiguous(weight), dx, stride, padding, dilation)
    else:
        windows = dgrad_windows(x_shape[2:], weight.shape[2:], stride, padding, dilation)
        _convolve(dy, weight, dx, groups, windows, True, precision)
    return deliver(dx, out)


def conv2d_wgrad(
    dy: Array,
    x: Array,
    weight_shape: tuple[int, int, int, int],
    *,
    stride: Pair = (1, 1),
    padding: Padding = (0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
    precision: str = "highest",
    out: Array | None = None,
) -> Array:
    """The gradient to the weight: dy (N, K, P, Q), x (N, C, H, W), weight_shape = (K, C/G, R, S) → dweight of that.

    The sums are float32 and stay so, whatever the images are: no gradient is rounded on its way to the optimiser.
    """
    dy, x = channels_last(dy), channels_last(x)
    if weight_shape[1] == 1 and groups > 1:
        return deliver(_depthwise.wgrad(dy, x, weight_shape, stride, padding, dilation), out)
    window = tuple(map(forward_axis, dy.shape[2:], weight_shape[2:], stride, padding, dilation))
    capability = _arithmetic.capability()
    factors = _arithmetic.factors(x.dtype, precision, capability)
    kind = "strict wgrad" if factors is None else "wgrad"
    work = kind, factors or x.dtype, FLOAT32, groups, x.shape, tuple(weight_shape), window
    rung, tile = choice(work, capability)
    dy, x = wgrad_operands(rung, dy, x, groups, factors)
    return deliver(WGRADS[rung].wgrad(dy, x, weight_shape, groups, window, tile=tile), out)


def conv2d_bgrad(dy: Array, *, out: Array | None = None) -> Array:
    """The gradient to the bias, dbias[k] = Σ_{n, p, q} dy[n, k, p, q]: (N, K, P, Q) → (K,), float32. Reads dy once."""
    return deliver(channel_sums(channels_last(dy)), out)


def _convolve(x: Array, weight: Array, y: Array, groups: int, windows: list[tuple[Axis, Axis]], transposed: bool,
              precision: str, *epilogue: Any, statistics: bool = False) -> Statistics | None:
    """Fill y, through each of the windows those of its pixels that belong to it.

    → the statistics of y, if they are asked for, there is but one window, and its kernel leaves them.
    """
    capability, left = _arithmetic.capability(), {}
    dtype = _arithmetic.factors(x.dtype, precision, capability) if all(map(fits, windows)) else None
    if dtype is None:
        weight = contiguous(weight.astype(x.dtype, copy=False))  # float32 beside 16 bits, in mixed precision
    else:
        x, weight = images(x, groups, dtype) if transposed else x, contiguous(weight)  # one copy for all windows
    kind = "strict product" if dtype is None else "product"
    for window in windows:
        rung, tile = choice((kind, dtype or x.dtype, y.dtype, groups, x.shape, y.shape, window), capability)
        held, rows = operands(rung, x, weight, groups, window, transposed, dtype, y.dtype)
        if statistics and held.dtype == rows.dtype == y.dtype:
            left["sets"] = tuple(empty((3, statistics_lots(rung, tile, x.shape, window), y.shape[1])))
        PRODUCTS[rung].convolve(held, rows, y, groups, window, *epilogue, tile=tile, **left)
    return left.get("sets")
