"""Depthwise convolution: one input channel per group, so lanes run over channels and a pixel is a few FMAs per tap.

With a channel multiplier M (K = M * C) the input is first repeated M times per channel. Memory-bound: at best x is read
once and y written once; rows of x stay in L1 and L2 for the R filter rows that use them.
"""

from __future__ import annotations

import numpy as np

from ._driver import INT, PTR, get_num_threads, job, share
from ._layout import empty_image
from ._memory import workspace
from .simd import L, vfma, vload, vload_n, vsplat, vstore, vstore_n


@job(x=PTR, w=PTR, bias=PTR, y=PTR, k=INT, k_pad=INT, h=INT, width=INT, oh=INT, ow=INT, r=INT, s=INT, stride_h=INT,
     stride_w=INT, dilation_h=INT, dilation_w=INT, top=INT, left=INT)
def _forward_rows(first, last, thread, a):
    """A job is a row of y."""
    for j in range(first, last):
        row = j % a.oh * a.stride_h - a.top
        source = a.x + 4 * (j // a.oh) * a.h * a.width * a.k
        for k in range(0, a.k, L):
            n = a.k - k
            for q in range(a.ow):
                column = q * a.stride_w - a.left
                total = vload(a.bias, k)
                for r in range(a.r):
                    h = row + r * a.dilation_h
                    if h < 0 or h >= a.h:
                        continue
                    for s in range(a.s):
                        w = column + s * a.dilation_w
                        if w >= 0 and w < a.width:
                            x = vload_n(source, (h * a.width + w) * a.k + k, n)
                            total = vfma(x, vload(a.w, (r * a.s + s) * a.k_pad + k), total)
                vstore_n(a.y, (j * a.ow + q) * a.k + k, total, n)


@job(dy=PTR, w=PTR, dx=PTR, k=INT, k_pad=INT, h=INT, width=INT, oh=INT, ow=INT, r=INT, s=INT, stride_h=INT,
     stride_w=INT, dilation_h=INT, dilation_w=INT, top=INT, left=INT)
def _backward_rows(first, last, thread, a):
    """A job is a row of dx; it gathers from the outputs that the pixel went into."""
    for j in range(first, last):
        row = j % a.h + a.top
        source = a.dy + 4 * (j // a.h) * a.oh * a.ow * a.k
        for k in range(0, a.k, L):
            n = a.k - k
            for q in range(a.width):
                column = q + a.left
                total = vsplat(np.float32(0))
                for r in range(a.r):
                    p = row - r * a.dilation_h
                    if p < 0 or p % a.stride_h != 0 or p // a.stride_h >= a.oh:
                        continue
                    for s in range(a.s):
                        o = column - s * a.dilation_w
                        if o >= 0 and o % a.stride_w == 0 and o // a.stride_w < a.ow:
                            d = vload_n(source, (p // a.stride_h * a.ow + o // a.stride_w) * a.k + k, n)
                            total = vfma(d, vload(a.w, (r * a.s + s) * a.k_pad + k), total)
                vstore_n(a.dx, (j * a.width + q) * a.k + k, total, n)


@job(dy=PTR, x=PTR, sums=PTR, shares=INT, n=INT, k=INT, k_pad=INT, h=INT, width=INT, oh=INT, ow=INT, r=INT, s=INT,
     stride_h=INT, stride_w=INT, dilation_h=INT, dilation_w=INT, top=INT, left=INT)
def _weight_sums(first, last, thread, a):
    """A job is L channels of a share of the images; sums [share][tap][k_pad], each row of pixels summed on its own."""
    vectors = a.k_pad // L
    for j in range(first, last):
        part = j // vectors
        k = j % vectors * L
        lanes = a.k - k
        for r in range(a.r):
            for s in range(a.s):
                total = vsplat(np.float32(0))
                for n in range(part * a.n // a.shares, (part + 1) * a.n // a.shares):
                    for p in range(a.oh):
                        h = p * a.stride_h - a.top + r * a.dilation_h
                        if h < 0 or h >= a.h:
                            continue
                        line = vsplat(np.float32(0))
                        for q in range(a.ow):
                            w = q * a.stride_w - a.left + s * a.dilation_w
                            if w >= 0 and w < a.width:
                                x = vload_n(a.x, ((n * a.h + h) * a.width + w) * a.k + k, lanes)
                                line = vfma(x, vload_n(a.dy, ((n * a.oh + p) * a.ow + q) * a.k + k, lanes), line)
                        total = total + line
                vstore(a.sums, ((part * a.r + r) * a.s + s) * a.k_pad + k, total)


def _repeated(x: np.ndarray, multiplier: int) -> np.ndarray:
    """x with every channel `multiplier` times, channels-last."""
    if multiplier == 1:
        return x
    n, c, h, w = x.shape
    copy = empty_image(n, c * multiplier, h, w)
    copy.transpose(0, 2, 3, 1).reshape(n, h, w, c, multiplier)[...] = x.transpose(0, 2, 3, 1)[..., None]
    return copy


def _by_tap(weight: np.ndarray) -> np.ndarray:
    """(K, 1, R, S) as [tap][K rounded up to whole vectors]."""
    k, _, r, s = weight.shape
    packed = np.zeros((r * s, -(-k // L) * L), np.float32)
    packed[:, :k] = weight.reshape(k, r * s).T
    return packed


def _geometry(kernel, stride, before, dilation):
    return {"r": kernel[0], "s": kernel[1], "stride_h": stride[0], "stride_w": stride[1], "dilation_h": dilation[0],
            "dilation_w": dilation[1], "top": before[0], "left": before[1]}


def forward(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, y: np.ndarray, *, stride: tuple[int, int],
            before: tuple[int, int], dilation: tuple[int, int]) -> None:
    """y = depthwise conv2d(x, weight) + bias for channels-last x, y."""
    n, k, oh, ow = y.shape
    _, c, h, w = x.shape
    packed = _by_tap(weight)
    start = np.zeros(packed.shape[1], np.float32)
    if bias is not None:
        start[:k] = bias
    _forward_rows(n * oh, threads=share(y.size * len(packed)), x=_repeated(x, k // c), w=packed, bias=start, y=y, k=k,
                  k_pad=packed.shape[1], h=h, width=w, oh=oh, ow=ow,
                  **_geometry(weight.shape[2:], stride, before, dilation))


def backward(dy: np.ndarray, weight: np.ndarray, dx: np.ndarray, *, stride: tuple[int, int], before: tuple[int, int],
             dilation: tuple[int, int]) -> None:
    """dx of depthwise conv2d for channels-last dy, dx."""
    _, k, oh, ow = dy.shape
    n, c, h, w = dx.shape
    packed = _by_tap(weight)
    target = dx if k == c else empty_image(n, k, h, w)
    _backward_rows(n * h, threads=share(target.size * len(packed)), dy=dy, w=packed, dx=target, k=k,
                   k_pad=packed.shape[1], h=h, width=w, oh=oh, ow=ow,
                   **_geometry(weight.shape[2:], stride, before, dilation))
    if target is not dx:
        target.transpose(0, 2, 3, 1).reshape(n, h, w, c, k // c).sum(-1, out=dx.transpose(0, 2, 3, 1))


def weight_gradient(dy: np.ndarray, x: np.ndarray, dweight: np.ndarray, *, stride: tuple[int, int],
                    before: tuple[int, int], dilation: tuple[int, int]) -> None:
    """dweight of depthwise conv2d for channels-last dy, x."""
    n, k, oh, ow = dy.shape
    _, c, h, w = x.shape
    _, _, r, s = dweight.shape
    k_pad = -(-k // L) * L
    shares = min(get_num_threads(), n)
    sums = workspace("depthwise sums", shares * r * s * k_pad)
    _weight_sums(shares * k_pad // L, threads=share(dy.size * r * s), dy=dy, x=_repeated(x, k // c), sums=sums,
                 shares=shares, n=n, k=k, k_pad=k_pad, h=h, width=w, oh=oh, ow=ow,
                 **_geometry((r, s), stride, before, dilation))
    total = sums[: shares * r * s * k_pad].reshape(shares, r * s, k_pad).sum(0)
    dweight.reshape(k, r * s)[...] = total[:, :k].T
