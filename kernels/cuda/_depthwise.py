"""Convolutions with one input channel a group: each filter slides over its own channel, memory bound.

The common ones, of a square window with a filter a channel, go to `_depthwise_square.py` and `_depthwise_wgrad.py`;
these kernels do all others.

With multiplier μ = K/C, filter k reads channel k div μ. A thread takes 16 bytes of channels of one pixel where μ = 1
and the channels come in whole vectors, one filter otherwise, and goes over the taps; neighbouring threads read the same
pixels, from the cache, and neighbouring filters of a tap (`_depthwise_taps.py`), from the cache as well.

    forward   y[p, k] = act(scale[k] Σ_t w[k, t] x[pixel(p, t), k div μ] + bias[k] + residual[p, k])
    dgrad     dx[h, c] = Σ_{k of c} Σ_t w[k, t] dy[p, k]   over the p that met h at t
    wgrad     dw[k, t] = Σ_p dy[p, k] x[pixel(p, t), k div μ]

For wgrad a block takes one tap, a strip of pixels and 32 filters; the strips' sums are then added, in order.
"""

from __future__ import annotations

from . import _depthwise_square, _depthwise_wgrad
from ._channel_sums import add_strips
from ._depthwise_taps import pack
from ._layout import Array, blocks
from ._math import INFINITY, ONE, ZERO, larger
from ._memory import empty
from ._moments import Statistics
from ._numba import cuda, types
from ._window import before
from .launch import F32, INT, STORAGE, Kernel, kernel
from .ptx import lanes, load, load_vector, quotient, store, store_vector

_THREADS, _WIDTH, _HEIGHT, _PIXELS = 256, 32, 8, 512
_WINDOW = ("taps_h", "taps_w", "stride_h", "stride_w", "top", "left", "dilation_h", "dilation_w")
_SIZES = ("images", "channels", "source_h", "source_w", "filters", "height", "width", "multiplier")


def _forward(vectors: bool) -> Kernel:
    def depthwise(x, taps, y, residual, scale, bias, work, has_residual, has_scale, has_bias, rectify, images, channels,
                  source_h, source_w, filters, height, width, multiplier, taps_h, taps_w, stride_h, stride_w, top, left,
                  dilation_h, dilation_w):
        sums, held = cuda.local.array(8, types.float32), cuda.local.array(8, types.float32)
        tap = cuda.local.array(8, types.float32)
        vector = lanes(x) if vectors else 1
        across = filters // vector
        i = cuda.blockIdx.x * _THREADS + cuda.threadIdx.x
        if i < work:
            pixel = quotient(i, across)
            k = (i - pixel * across) * vector
            line = quotient(pixel, width)
            image = quotient(line, height)
            first_h = (line - image * height) * stride_h - top
            first_w = (pixel - line * width) * stride_w - left
            for lane in range(vector):
                sums[lane] = ZERO
            for r in range(taps_h):
                h = first_h + r * dilation_h
                for s in range(taps_w):
                    w = first_w + s * dilation_w
                    if h >= 0 and h < source_h and w >= 0 and w < source_w:
                        at = ((image * source_h + h) * source_w + w) * channels
                        weight = (r * taps_w + s) * filters + k
                        if vectors:
                            load_vector(held, x, at + k)
                            for lane in range(0, vector, 4):
                                load_vector(tap[lane:], taps, weight + lane)
                        else:
                            held[0] = load(x, at + quotient(k, multiplier))
                            tap[0] = taps[weight]
                        for lane in range(vector):
                            sums[lane] += held[lane] * tap[lane]
            for lane in range(vector):
                held[lane] = ZERO
            if has_residual:
                if vectors:
                    load_vector(held, residual, pixel * filters + k)
                else:
                    held[0] = load(residual, pixel * filters + k)
            floor = ZERO if rectify else -INFINITY
            for lane in range(vector):
                factor = scale[k + lane] if has_scale else ONE
                summand = bias[k + lane] if has_bias else ZERO
                sums[lane] = larger(sums[lane] * factor + summand + held[lane], floor)
            if vectors:
                store_vector(y, pixel * filters + k, sums)
            else:
                store(y, pixel * filters + k, sums[0])

    pointers = dict(x=STORAGE, taps=F32, y=STORAGE, residual=STORAGE, scale=F32, bias=F32)
    names = ("work", "has_residual", "has_scale", "has_bias", "rectify", *_SIZES, *_WINDOW)
    name = f"depthwise_{'vectors' if vectors else 'elements'}"
    return kernel(block=_THREADS, name=name, **pointers, **dict.fromkeys(names, INT))(depthwise)


def _backward(vectors: bool) -> Kernel:
    def depthwise_dgrad(dy, taps, dx, work, images, channels, source_h, source_w, filters, height, width, multiplier,
                        taps_h, taps_w, stride_h, stride_w, top, left, dilation_h, dilation_w):
        sums, held = cuda.local.array(8, types.float32), cuda.local.array(8, types.float32)
        tap = cuda.local.array(8, types.float32)
        vector = lanes(dx) if vectors else 1
        across = channels // vector
        i = cuda.blockIdx.x * _THREADS + cuda.threadIdx.x
        if i < work:
            pixel = quotient(i, across)
            c = (i - pixel * across) * vector
            line = quotient(pixel, source_w)
            image = quotient(line, source_h)
            h, w = line - image * source_h + top, pixel - line * source_w + left
            for lane in range(vector):
                sums[lane] = ZERO
            for r in range(taps_h):
                far_h = h - r * dilation_h
                for s in range(taps_w):
                    far_w = w - s * dilation_w
                    if far_h >= 0 and far_w >= 0:
                        p, q = quotient(far_h, stride_h), quotient(far_w, stride_w)
                        if p * stride_h == far_h and q * stride_w == far_w and p < height and q < width:
                            at = ((image * height + p) * width + q) * filters + c * multiplier
                            weight = (r * taps_w + s) * filters + c * multiplier
                            if vectors:
                                load_vector(held, dy, at)
                                for lane in range(0, vector, 4):
                                    load_vector(tap[lane:], taps, weight + lane)
                                for lane in range(vector):
                                    sums[lane] += held[lane] * tap[lane]
                            else:
                                for m in range(multiplier):
                                    sums[0] += load(dy, at + m) * taps[weight + m]
            if vectors:
                store_vector(dx, pixel * channels + c, sums)
            else:
                store(dx, pixel * channels + c, sums[0])

    pointers = dict(dy=STORAGE, taps=F32, dx=STORAGE)
    name = f"depthwise_dgrad_{'vectors' if vectors else 'elements'}"
    return kernel(block=_THREADS, name=name, **pointers, work=INT,
                  **dict.fromkeys((*_SIZES, *_WINDOW), INT))(depthwise_dgrad)


@kernel(block=_THREADS, dy=STORAGE, x=STORAGE, partial=F32, **dict.fromkeys((*_SIZES, *_WINDOW), INT))
def _wgrad(dy, x, partial, images, channels, source_h, source_w, filters, height, width, multiplier, taps_h, taps_w,
           stride_h, stride_w, top, left, dilation_h, dilation_w):
    shared = cuda.shared.array(_THREADS, types.float32)
    column, row = cuda.threadIdx.x % _WIDTH, cuda.threadIdx.x // _WIDTH
    k, tap, first = cuda.blockIdx.y * _WIDTH + column, cuda.blockIdx.z, cuda.blockIdx.x * _PIXELS
    r = quotient(tap, taps_w)
    shift_h, shift_w = r * dilation_h - top, (tap - r * taps_w) * dilation_w - left
    total = ZERO
    if k < filters:
        for pixel in range(first + row, min(first + _PIXELS, images * height * width), _HEIGHT):
            line = quotient(pixel, width)
            image = quotient(line, height)
            h = (line - image * height) * stride_h + shift_h
            w = (pixel - line * width) * stride_w + shift_w
            if h >= 0 and h < source_h and w >= 0 and w < source_w:
                met = load(x, ((image * source_h + h) * source_w + w) * channels + quotient(k, multiplier))
                total += load(dy, pixel * filters + k) * met
    shared[cuda.threadIdx.x] = total
    cuda.syncthreads()
    if row == 0 and k < filters:
        for other in range(1, _HEIGHT):
            total += shared[other * _WIDTH + column]
        partial[(cuda.blockIdx.x * filters + k) * taps_h * taps_w + tap] = total


_FORWARD = {vectors: _forward(vectors) for vectors in (True, False)}
_BACKWARD = {vectors: _backward(vectors) for vectors in (True, False)}


def _arguments(x_shape: tuple, y_shape: tuple, taps: tuple, stride: tuple, padding: tuple, dilation: tuple) -> tuple:
    """The integers that all three kernels take, in their order."""
    return (*x_shape, *y_shape[1:], y_shape[1] // x_shape[1], *taps, *stride, *map(before, padding), *dilation)


def _in_vectors(x: Array, channels: int, filters: int) -> bool:
    return channels == filters and channels % (16 // x.itemsize) == 0


def forward(x: Array, weight: Array, y: Array, stride: tuple, padding: tuple, dilation: tuple, scale: Array | None,
            bias: Array | None, rectify: bool, residual: Array | None, statistics: bool) -> Statistics | None:
    """Fill y; x, y and residual channels-last, weight contiguous. → the statistics of y, where a kernel leaves them."""
    if _depthwise_square.supports(x.shape[1], weight.shape, stride, dilation):
        return _depthwise_square.forward(x, weight, y, stride, padding, scale, bias, rectify, residual, statistics)
    vectors = _in_vectors(x, x.shape[1], y.shape[1])
    work = y.size // (16 // x.itemsize if vectors else 1)
    has = (given is not None for given in (residual, scale, bias))
    _FORWARD[vectors](blocks(work, _THREADS), x, pack(weight), y, residual, scale, bias, work, *has, rectify,
                      *_arguments(x.shape, y.shape, weight.shape[2:], stride, padding, dilation))
    return None


def dgrad(dy: Array, weight: Array, dx: Array, stride: tuple, padding: tuple, dilation: tuple) -> None:
    """Fill dx; dy and dx channels-last, weight contiguous."""
    if _depthwise_square.supports(dx.shape[1], weight.shape, stride, dilation):
        _depthwise_square.dgrad(dy, weight, dx, stride, padding)
        return
    vectors = _in_vectors(dx, dx.shape[1], dy.shape[1])
    work = dx.size // (16 // dx.itemsize if vectors else 1)
    _BACKWARD[vectors](blocks(work, _THREADS), dy, pack(weight), dx, work,
                       *_arguments(dx.shape, dy.shape, weight.shape[2:], stride, padding, dilation))


def wgrad(dy: Array, x: Array, weight_shape: tuple[int, int, int, int], stride: tuple, padding: tuple,
          dilation: tuple) -> Array:
    """dweight (K, 1, R, S), float32, from dy and x, channels-last."""
    if _depthwise_square.supports(x.shape[1], weight_shape, stride, dilation):
        return _depthwise_wgrad.wgrad(dy, x, weight_shape, stride, padding)
    (k, _, r, s), pixels = weight_shape, dy.size // dy.shape[1]
    partial = empty((blocks(pixels, _PIXELS), k, r * s))
    _wgrad((len(partial), blocks(k, _WIDTH), r * s), dy, x, partial,
           *_arguments(x.shape, dy.shape, (r, s), stride, padding, dilation))
    return add_strips(partial, weight_shape)
