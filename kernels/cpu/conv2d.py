"""2-D convolution, float32, channels-last inside: forward, and the gradients to input, weight and bias.

The formulas are those of `kernels/reference/conv2d.py`. Which kernel takes which shape:

| shape | forward, dgrad | wgrad | why |
|---|---|---|---|
| one input channel per group | `_depthwise` | `_depthwise` | no reduction over channels: lanes run over them |
| fewer than 8 input channels, one group | `_direct`, filter rows merged | `_wgrad`, merged | a row is S * C floats |
| all others | `_direct` | `_wgrad` | register tiles over packed weights |

Work: 2 N OH OW K C/groups R S FLOPs in each direction, against the FMA peak; every array is read or written once from
memory while the maps of a job stay in cache.
"""

from __future__ import annotations

import numpy as np

from ..shapes import conv_output_size
from . import _depthwise, _direct, _wgrad
from ._layout import channels_last, contiguous, deliver, empty_image
from ._memory import empty
from ._reduce import column_sums

Padding = tuple[int | tuple[int, int], int | tuple[int, int]]

_FEW = 8  # input channels below which a filter row is merged into one run


def _before(padding: Padding) -> tuple[int, int]:
    """Padding above and to the left; what lies below and to the right follows from the output's size."""
    return tuple(p if isinstance(p, int) else p[0] for p in padding)


def _few(channels: int, kernel: tuple[int, int], dilation: tuple[int, int], groups: int) -> bool:
    return channels < _FEW and groups == 1 and kernel != (1, 1) and dilation == (1, 1)


def conv2d(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None = None,
    *,
    stride: tuple[int, int] = (1, 1),
    padding: Padding = (0, 0),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """y (N, K, OH, OW) from x (N, C, H, W) and weight (K, C/groups, R, S)."""
    n, c, h, w = x.shape
    k, c_group, r, s = weight.shape
    oh, ow = (conv_output_size(*v) for v in zip((h, w), (r, s), stride, padding, dilation))
    y = empty_image(n, k, oh, ow)
    weight, before = contiguous(weight), _before(padding)
    if y.size == 0:
        pass
    elif c_group == 1 and groups > 1:
        _depthwise.forward(channels_last(x), weight, bias, y, stride=stride, before=before, dilation=dilation)
    elif _few(c, (r, s), dilation, groups):
        _direct.forward_few(x, weight, bias, y, stride=stride, before=before)
    else:
        _direct.forward(channels_last(x), weight, bias, y, stride=stride, before=before, dilation=dilation,
                        groups=groups)
    return deliver(y, out)


def conv2d_dgrad(
    dy: np.ndarray,
    weight: np.ndarray,
    x_shape: tuple[int, int, int, int],
    *,
    stride: tuple[int, int] = (1, 1),
    padding: Padding = (0, 0),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Gradient to x: dx (N, C, H, W) from dy (N, K, OH, OW)."""
    dx = empty_image(*x_shape)
    dy, weight, before = channels_last(dy), contiguous(weight), _before(padding)
    if dx.size == 0:
        pass
    elif weight.shape[1] == 1 and groups > 1:
        _depthwise.backward(dy, weight, dx, stride=stride, before=before, dilation=dilation)
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
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Gradient to the weight: dweight (K, C/groups, R, S) from dy (N, K, OH, OW) and x (N, C, H, W)."""
    dweight = empty(tuple(weight_shape))
    _, c_group, r, s = weight_shape
    dy, before = channels_last(dy), _before(padding)
    if dy.size == 0:
        dweight.fill(0)
    elif c_group == 1 and groups > 1:
        _depthwise.weight_gradient(dy, channels_last(x), dweight, stride=stride, before=before, dilation=dilation)
    elif _few(x.shape[1], (r, s), dilation, groups):
        _wgrad.weight_gradient_few(dy, x, dweight, stride=stride, before=before)
    else:
        _wgrad.weight_gradient(dy, channels_last(x), dweight, stride=stride, before=before, dilation=dilation,
                               groups=groups)
    return deliver(dweight, out)


def conv2d_bgrad(dy: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """Gradient to the bias: dbias (K,), the sum of dy over images and pixels. Reads dy once."""
    k = dy.shape[1]
    return deliver(column_sums(channels_last(dy), k), out)
