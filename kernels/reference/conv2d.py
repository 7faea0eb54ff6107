"""Two-dimensional convolution and its three gradients, tap by tap.

    y[n, k, p, q] = bias[k] + Σ_{c, r, s} weight[k, c, r, s] · x[n, c', p·stride_h + r·dilation_h - pad_top,
                                                                      q·stride_w + s·dilation_w - pad_left]

with x zero outside the image (cross-correlation, as everywhere in deep learning). With `groups` = G, channels
and filters fall into G groups and filter k sees only its group's channels: c' = (k div (K/G))·(C/G) + c.

The forward pass also does what follows it: a batch norm folded into a factor per filter, a residual sum and a
ReLU, y = max(0, scale[k] · Σ + bias[k] + residual). And it can say what a batch norm behind it asks of its output,
so that this need not be read for it: the count, the mean and the sum of squared deviations of each channel.

Shapes: x (N, C, H, W), weight (K, C/G, R, S), scale and bias (K,), residual and y (N, K, P, Q); P and
Q as in `shapes.conv_output_size`. `padding` has one entry per axis, an int or (before, after). `precision` ("highest",
"high", "medium") says how much accuracy a backend may give up for speed; here nothing depends on it.

For one tap (r, s) the sum over c is a matrix product between weight[:, :, r, s] and the pixels that the tap
meets. The gradients follow tap by tap from the chain rule: y depends on x through the tap's matrix W, so
dx gets Wᵀ dy at those pixels, and W gets dy times the pixels, summed over images and positions.

Sources: Dumoulin and Visin (2016), arXiv:1603.07285 (arithmetic); LeCun et al. (1998), Gradient-based
learning applied to document recognition (gradients); torch.nn.functional.conv2d (conventions).
"""

from __future__ import annotations

import numpy as np

from ..shapes import conv_output_size
from ._moments import Statistics, statistics_of
from ._out import deliver
from ._window import Pair, ends, frame, interior, reach, taps
from .activation import relu

Padding = tuple[int | Pair, int | Pair]


def conv2d(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None = None,
    *,
    stride: Pair = (1, 1),
    padding: Padding = (0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
    precision: str = "highest",
    scale: np.ndarray | None = None,
    activation: str | None = None,
    residual: np.ndarray | None = None,
    statistics: bool = False,
    keep_packed: bool = False,
    out: np.ndarray | tuple[np.ndarray, None] | None = None,
) -> np.ndarray | tuple[np.ndarray, Statistics]:
    """y = x ⋆ weight + bias, the formula above: (N, C, H, W), (K, C/G, R, S), (K,) → (N, K, P, Q).

    `activation` is None or "relu". With `statistics` the result is (y, those of y's channels), and `out` (y, None):
    they are given on as they are, to `batch_norm_train` or `batch_norm_relu_train` of y. Each backend has its own form
    of them, and None where the sums in batch norm cost less than here.
    """
    kernel = weight.shape[2:]
    count = tuple(map(conv_output_size, x.shape[2:], kernel, stride, padding, dilation))
    framed = frame(x, _before(padding), reach(count, kernel, stride, dilation), 0)
    y = np.zeros((len(x), groups, len(weight) // groups, count[0] * count[1]), x.dtype)
    for tap, pixels in taps(framed, count, kernel, stride, dilation):
        y += _matrix(weight, tap, groups) @ _grouped(pixels, groups)
    y = y.reshape(len(x), len(weight), *count)
    if scale is not None:
        y *= scale[:, None, None]
    if bias is not None:
        y += bias[:, None, None]
    if residual is not None:
        y += residual
    y = deliver(relu(y) if activation == "relu" else y, out and out[0] if statistics else out, x.dtype)
    return (y, statistics_of(y)) if statistics else y


def conv2d_dgrad(
    dy: np.ndarray,
    weight: np.ndarray,
    x_shape: tuple[int, int, int, int],
    *,
    stride: Pair = (1, 1),
    padding: Padding = (0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
    precision: str = "highest",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """The gradient to the input: every tap sends weight[:, :, r, s]ᵀ dy back to the pixels that it met.

    dy (N, K, P, Q), weight (K, C/G, R, S), x_shape = (N, C, H, W) → dx (N, C, H, W).
    """
    kernel, count = weight.shape[2:], dy.shape[2:]
    nothing = np.zeros(x_shape, dy.dtype)
    framed = frame(nothing, _before(padding), reach(count, kernel, stride, dilation), 0)
    for tap, pixels in taps(framed, count, kernel, stride, dilation):
        back = _matrix(weight, tap, groups).swapaxes(1, 2) @ _grouped(dy, groups)
        pixels += back.reshape(pixels.shape)
    return deliver(interior(framed, _before(padding), x_shape), out, dy.dtype)


def conv2d_wgrad(
    dy: np.ndarray,
    x: np.ndarray,
    weight_shape: tuple[int, int, int, int],
    *,
    stride: Pair = (1, 1),
    padding: Padding = (0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
    precision: str = "highest",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """The gradient to the weight: dweight[:, :, r, s] = Σ over images and positions of dy · pixelsᵀ.

    dy (N, K, P, Q), x (N, C, H, W), weight_shape = (K, C/G, R, S) → dweight (K, C/G, R, S).
    """
    kernel, count = weight_shape[2:], dy.shape[2:]
    framed = frame(x, _before(padding), reach(count, kernel, stride, dilation), 0)
    dweight = np.zeros(weight_shape, dy.dtype)
    for (r, s), pixels in taps(framed, count, kernel, stride, dilation):
        product = (_grouped(dy, groups) @ _grouped(pixels, groups).swapaxes(2, 3)).sum(axis=0)
        dweight[:, :, r, s] = product.reshape(weight_shape[:2])
    return deliver(dweight, out, dy.dtype)


def conv2d_bgrad(dy: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """The gradient to the bias, dbias[k] = Σ_{n, p, q} dy[n, k, p, q]: (N, K, P, Q) → (K,)."""
    return deliver(dy.sum(axis=(0, 2, 3)), out, dy.dtype)


def _before(padding: Padding) -> Pair:
    return ends(padding[0])[0], ends(padding[1])[0]


def _grouped(image: np.ndarray, groups: int) -> np.ndarray:
    """(N, C, P, Q) → (N, G, C/G, P·Q): a matrix of channels by pixels for each image and group."""
    return image.reshape(len(image), groups, image.shape[1] // groups, image.shape[2] * image.shape[3])


def _matrix(weight: np.ndarray, tap: Pair, groups: int) -> np.ndarray:
    """One tap of the weight as (G, K/G, C/G): a matrix of filters by channels for each group."""
    return weight[:, :, tap[0], tap[1]].reshape(groups, -1, weight.shape[1])
