"""2-D convolution, float32, channels-last inside: forward, and the gradients to input, weight and bias.

The formulas are those of `kernels/reference/conv2d.py`. Which kernel takes which shape (the first row that fits):

| shape | kernel | why |
|---|---|---|
| one input channel per group | `_depthwise` | no reduction over channels: lanes run over them |
| fewer than 8 input channels, one group | `_direct`, `_wgrad`, merged filter rows | a row is a run of S C floats |
| 3 x 3, stride 1, whole vectors of channels, some tiles | `_winograd`, `_winograd_wgrad` | 4 or 2.25 times less work |
| all others | `_direct`, `_wgrad` | register tiles over packed weights |

Work of the direct kernels: 2 N OH OW K C/groups R S FLOPs in each direction, against the FMA peak; every array moves
once between memory and cache. Winograd's F(4 x 4) needs a quarter of these products, at about ten times the rounding
error (relative RMS 1e-6 to 5e-6 against float64, where the direct sum has 2e-7 to 8e-7): it runs unless `precision` is
"highest". F(2 x 2) needs 4/9 of them, is as exact as the direct sum and runs in "highest". A few tiles, as of one small
image, are not worth the weights in Winograd's domain, four times as large (`_enough_tiles`).

In inference a batch norm and a ReLU behind the convolution cost nothing: `scale` goes into the packed weights, the sums
start from the bias, and ReLU is a floor under what is stored. A residual costs one more pass, which reads it and y and
writes y, the ReLU included: tiles that read it as they are stored have to wait for it, and took as long (measured).

There are no statistics of y: batch norm's pass for them costs 4 bytes an element beside the 2 C/groups R S FLOPs of the
convolution, whose tiles have no registers to spare for sums.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from ..shapes import conv_output_size
from . import _depthwise, _direct, _wgrad, _winograd, _winograd_wgrad
from ._blocks import pointwise, run
from ._driver import FLOAT, PTR, get_num_threads
from ._kept import Filters
from ._layout import channels_last, contiguous, deliver, empty_image
from ._memory import empty
from ._reduce import column_sums
from .simd import L, vload_n, vselect

Padding = tuple[int | tuple[int, int], int | tuple[int, int]]

_FEW = 8  # input channels below which a filter row is merged into one run


@functools.lru_cache(512)
def _y_shape(
    x_shape: tuple[int, ...], shape: tuple[int, ...], stride: tuple[int, int], padding: Padding,
    dilation: tuple[int, int]
) -> tuple[int, ...]:
    sizes = zip(x_shape[2:], shape[2:], stride, padding, dilation)
    return (x_shape[0], shape[0], *(conv_output_size(*axis) for axis in sizes))


@functools.lru_cache(512)
def _before(padding: Padding) -> tuple[int, int]:
    """Padding above and to the left; what lies below and to the right follows from the output's size."""
    return tuple(p if isinstance(p, int) else p[0] for p in padding)


def _few(channels: int, kernel: tuple[int, int], dilation: tuple[int, int], groups: int) -> bool:
    return channels < _FEW and groups == 1 and kernel != (1, 1) and dilation == (1, 1)


def _winograd_size(
    channels: int, filters: int, kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int],
    groups: int, precision: str
) -> int:
    """m of Winograd's F(m x m, 3 x 3), 0 where it does not apply."""
    if kernel != (3, 3) or stride != (1, 1) or dilation != (1, 1) or groups != 1 or channels % L or filters % L:
        return 0
    if precision != "highest":
        return 4
    # With one vector of channels the transforms cost more than F(2 x 2) saves.
    return 2 if min(channels, filters) > L else 0


def _enough_tiles(n: int, height: int, width: int, m: int, least: float) -> bool:
    """Whether n maps have `least` tiles of m x m for every thread.

    Measured with 64 to 512 channels, one and two threads. In both directions along the data a tile saves its products;
    against this stand the weights, transformed and read, 8 tiles' worth, 4 where they are kept transformed. In the
    weight gradient each thread has sums of its own, 36 C K of them, worth sqrt(C K) / 16 tiles.
    """
    return n * -(-height // m) * -(-width // m) >= least * get_num_threads()


@pointwise(residual=PTR, floor=FLOAT)
def _add_residual(a, i, n):
    y = vload_n(a.y, i, n) + vload_n(a.residual, i, n)
    return vselect(y < a.floor, a.floor, y)


def conv2d(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None = None,
    *,
    stride: tuple[int, int] = (1, 1),
    padding: Padding = (0, 0),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
    precision: str = "highest",
    scale: np.ndarray | None = None,
    activation: str | None = None,
    residual: np.ndarray | None = None,
    statistics: bool = False,
    keep_packed: bool = False,
    out: np.ndarray | tuple[np.ndarray, None] | None = None,
) -> np.ndarray | tuple[np.ndarray, None]:
    """y (N, K, OH, OW) from x (N, C, H, W) and weight (K, C/groups, R, S).

    `keep_packed` (for inference) keeps the packed form of the weight until weight or scale change. With `statistics`
    the result is (y, None).
    """
    c = x.shape[1]
    k, c_group, r, s = weight.shape
    y = empty_image(*_y_shape(x.shape, weight.shape, stride, padding, dilation))
    filters, before = Filters(contiguous(weight), scale, keep_packed), _before(padding)
    least = 0.0 if activation == "relu" else -np.inf
    floor = least if residual is None else -np.inf
    if y.size == 0:
        pass
    elif c_group == 1 and groups > 1:
        _depthwise.forward(channels_last(x), filters.scaled(), bias, y, floor=floor, stride=stride,
                           before=before, dilation=dilation)
    elif _few(c, (r, s), dilation, groups):
        _direct.forward_few(x, filters, bias, y, floor=floor, stride=stride, before=before)
    elif (m := _winograd_size(c, k, (r, s), stride, dilation, groups, precision)) and _enough_tiles(
            len(y), *y.shape[2:], m, 4 if keep_packed else 8):
        _winograd.forward(channels_last(x), filters, bias, y, m=m, floor=floor, before=before)
    else:
        _direct.forward(channels_last(x), filters, bias, y, floor=floor, stride=stride, before=before,
                        dilation=dilation, groups=groups)
    if residual is not None:
        run(_add_residual, y, residual=channels_last(residual), floor=least)
    return (deliver(y, out and out[0]), None) if statistics else deliver(y, out)


def conv2d_dgrad(
    dy: np.ndarray,
    weight: np.ndarray,
    x_shape: tuple[int, int, int, int],
    *,
    stride: tuple[int, int] = (1, 1),
    padding: Padding = (0, 0),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
    precision: str = "highest",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Gradient to x: dx (N, C, H, W) from dy (N, K, OH, OW)."""
    dx = empty_image(*x_shape)
    k, c, r, s = weight.shape
    dy, weight, before = channels_last(dy), contiguous(weight), _before(padding)
    if dx.size == 0:
        pass
    elif c == 1 and groups > 1:
        _depthwise.backward(dy, weight, dx, stride=stride, before=before, dilation=dilation)
    elif (m := _winograd_size(c, k, (r, s), stride, dilation, groups, precision)) and _enough_tiles(
            len(dx), *dx.shape[2:], m, 8):
        _winograd.backward(dy, weight, dx, m=m, before=before)
    else:
        _direct.backward(dy, weight, dx, stride=stride, before=before, dilation=dilation, groups=groups)
    return deliver(dx, out)


def conv2d_wgrad(
    dy: np.ndarray,
    x: np.ndarray,
    weight_shape: tuple[int, int, int, int],
    *,
    stride: tuple[int, int] = (1, 1),
    padding: Padding = (0, 0),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
    precision: str = "highest",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Gradient to the weight: dweight (K, C/groups, R, S) from dy (N, K, OH, OW) and x (N, C, H, W)."""
    dweight = empty(tuple(weight_shape))
    k, c_group, r, s = weight_shape
    dy, before = channels_last(dy), _before(padding)
    if dy.size == 0:
        dweight.fill(0)
    elif c_group == 1 and groups > 1:
        _depthwise.weight_gradient(dy, channels_last(x), dweight, stride=stride, before=before, dilation=dilation)
    elif _few(x.shape[1], (r, s), dilation, groups):
        _wgrad.weight_gradient_few(dy, x, dweight, stride=stride, before=before)
    elif (m := _winograd_size(c_group, k, (r, s), stride, dilation, groups, precision)) and _enough_tiles(
            len(dy), *dy.shape[2:], m, math.sqrt(c_group * k) / 16):
        _winograd_wgrad.weight_gradient(dy, channels_last(x), dweight, m=m, before=before)
    else:
        _wgrad.weight_gradient(dy, channels_last(x), dweight, stride=stride, before=before, dilation=dilation,
                               groups=groups)
    return deliver(dweight, out)


def conv2d_bgrad(dy: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """Gradient to the bias: dbias (K,), the sum of dy over images and pixels. Reads dy once."""
    k = dy.shape[1]
    return deliver(column_sums(channels_last(dy), k), out)
