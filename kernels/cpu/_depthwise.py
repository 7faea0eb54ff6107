"""Depthwise convolution: one input channel per group, so lanes run over channels and a pixel is one FMA a tap.

2 R S FLOPs an output; x is read once, y written once. 3 x 3 filters with stride 1 or 2 slide over bands of rows
(`_window.py`), and so do their gradients; at stride 1 that to the input is the same with the filter turned round.

All others go tap by tap. A job is then one row of the output; it goes along the row some pixels at a time and takes all
vectors of channels of these before it goes on, so that memory is read and written in its order. At the borders a tile
takes only the taps inside. The gradient to the input is one small convolution of dy for each class of positions
(`_geometry.py`); the weight gradient keeps three neighbouring taps in registers along a row.

With a channel multiplier M (K = M * C) the input is first repeated M times per channel.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from ._driver import FLOAT, INT, PTR, get_num_threads, job, share
from ._geometry import Geometry, forward_geometry, gradient_classes, tap_ranges, zeros
from ._layout import contiguous, empty_image
from ._memory import workspace
from ._tile import lane_sums, lane_tile
from ._window import SIZE, window_spread, window_sums, window_tile
from .simd import L, iload, vsplat, vstore

_BAND = 1 << 14  # floats of x that one vector of channels after the other goes over


@njit
def _inside(first, step, count, size):
    """The range of taps t < count whose position first + t * step lies in 0..size."""
    begin = 0
    while begin < count and not 0 <= first + begin * step < size:
        begin += 1
    end = begin
    while end < count and 0 <= first + end * step < size:
        end += 1
    return begin, end


@job(x=PTR, k=INT, h=INT, w=INT, weight=PTR, taps=INT, bias=PTR, y=PTR, y_image=INT, y_row=INT, y_pixel=INT,
     y_start=INT, grid_h=INT, grid_w=INT, step_h=INT, step_w=INT, rows=INT, columns=INT, first_row=INT,
     first_column=INT, next_row=INT, next_column=INT, w_start=INT, w_row=INT, w_column=INT, inner_begin=INT,
     inner_end=INT, floor=FLOAT)
def _convolve(first, last, thread, a):
    """A job is a row of the output grid; columns inner_begin..inner_end of it have all their taps inside x."""
    for j in range(first, last):
        n, i = j // a.grid_h, j % a.grid_h
        h = i * a.step_h + a.first_row
        r0, r1 = _inside(h, a.next_row, a.rows, a.h)
        x_row = a.next_row * a.w * a.k
        x_column = a.next_column * a.k
        x_pixel = a.step_w * a.k
        source = a.x + 4 * (n * a.h + h + r0 * a.next_row) * a.w * a.k
        target = a.y + 4 * (n * a.y_image + i * a.y_row + a.y_start)
        weight = a.weight + 4 * (a.w_start + r0 * a.w_row)
        q = 0
        while q < a.grid_w:
            w = q * a.step_w + a.first_column
            s0, s1 = 0, a.columns
            pixels = 1
            if q < a.inner_begin or q >= a.inner_end:
                s0, s1 = _inside(w, a.next_column, a.columns, a.w)
            elif q + 8 <= a.inner_end:
                pixels = 8
            elif a.inner_end - a.inner_begin >= 4:
                pixels = 4
                q = min(q, a.inner_end - 4)  # rather twice over some pixels than one by one
                w = q * a.step_w + a.first_column
            x = source + 4 * (w + s0 * a.next_column) * a.k
            y = target + 4 * q * a.y_pixel
            ws = weight + 4 * s0 * a.w_column
            for c in range(0, a.k, L):
                wc = ws + 4 * c * a.taps
                bias = a.bias + 4 * c
                if pixels == 8:
                    lane_tile(8, r1 - r0, s1 - s0, x + 4 * c, x_row, x_column, x_pixel, wc, a.w_row, a.w_column, bias,
                              y + 4 * c, a.y_pixel, a.k - c, a.floor)
                elif pixels == 4:
                    lane_tile(4, r1 - r0, s1 - s0, x + 4 * c, x_row, x_column, x_pixel, wc, a.w_row, a.w_column, bias,
                              y + 4 * c, a.y_pixel, a.k - c, a.floor)
                else:
                    lane_tile(1, r1 - r0, s1 - s0, x + 4 * c, x_row, x_column, x_pixel, wc, a.w_row, a.w_column, bias,
                              y + 4 * c, a.y_pixel, a.k - c, a.floor)
            q += pixels


@job(dy=PTR, x=PTR, sums=PTR, shares=INT, n=INT, k=INT, h=INT, w=INT, oh=INT, ow=INT, r=INT, s=INT, step_h=INT,
     step_w=INT, top=INT, left=INT, dilation_h=INT, dilation_w=INT, columns=PTR)
def _weight_sums(first, last, thread, a):
    """A job is a share of the images; sums [share][vector of channels][tap][L]."""
    vectors = (a.k + L - 1) // L
    taps = a.r * a.s
    x_tap, x_pixel = a.dilation_w * a.k, a.step_w * a.k
    for part in range(first, last):
        sums = a.sums + 4 * part * vectors * taps * L
        for i in range(vectors * taps):
            vstore(sums, i * L, vsplat(np.float32(0)))
        for j in range(part * a.n // a.shares * a.oh, (part + 1) * a.n // a.shares * a.oh):
            h = j % a.oh * a.step_h - a.top
            r0, r1 = _inside(h, a.dilation_h, a.r, a.h)
            for r in range(r0, r1):
                line = a.x + 4 * (j // a.oh * a.h + h + r * a.dilation_h) * a.w * a.k
                for s in range(0, a.s, 3):
                    width = min(3, a.s - s)
                    # The output columns that all three taps serve go through registers, the others tap by tap.
                    begin, end = 0, a.ow if width == 3 else 0
                    if width == 3:
                        for t in range(s, s + 3):
                            begin = max(begin, iload(a.columns, 3 * t + 1))
                            end = min(end, iload(a.columns, 3 * t + 2))
                        end = max(begin, end)
                    for c in range(0, a.k, L):
                        d = a.dy + 4 * (j * a.ow * a.k + c)
                        target = sums + 4 * ((c // L) * taps + r * a.s + s) * L
                        x = line + 4 * ((s * a.dilation_w - a.left) * a.k + c)
                        if begin < end:
                            lane_sums(3, end - begin, x + 4 * begin * x_pixel, x_tap, x_pixel, d + 4 * begin * a.k, a.k,
                                      target, a.k - c)
                        for t in range(width):
                            t_begin, t_end = iload(a.columns, 3 * (s + t) + 1), iload(a.columns, 3 * (s + t) + 2)
                            _edge(a, t_begin, min(begin, t_end), x + 4 * t * x_tap, d, c, target + 4 * t * L)
                            _edge(a, max(end, t_begin), t_end, x + 4 * t * x_tap, d, c, target + 4 * t * L)


@job(x=PTR, k=INT, h=INT, w=INT, weight=PTR, bias=PTR, y=PTR, oh=INT, ow=INT, stride=INT, top=INT, left=INT,
     zeros=PTR, band=INT, floor=FLOAT)
def _slide(first, last, thread, a):
    """A job is a band of rows of y; a band has an even number of rows, but for an image's last."""
    bands = (a.oh + a.band - 1) // a.band
    for j in range(first, last):
        n, i = j // bands, j % bands * a.band
        rows = min(a.band, a.oh - i)
        x = a.x + 4 * n * a.h * a.w * a.k
        y = a.y + 4 * (n * a.oh + i) * a.ow * a.k
        row = i * a.stride - a.top
        for c in range(0, a.k, L):
            weight, bias = a.weight + 4 * c * 9, a.bias + 4 * c
            y_last, row_last = y + 4 * (rows - 1) * a.ow * a.k, row + (rows - 1) * a.stride
            if a.stride == 1:
                window_tile(1, 2, x + 4 * c, row, a.left, a.h, a.w, a.k, a.zeros, weight, bias, y + 4 * c, rows // 2,
                            a.ow, a.k - c, a.floor)
                window_tile(1, 1, x + 4 * c, row_last, a.left, a.h, a.w, a.k, a.zeros, weight, bias, y_last + 4 * c,
                            rows % 2, a.ow, a.k - c, a.floor)
            else:
                window_tile(2, 2, x + 4 * c, row, a.left, a.h, a.w, a.k, a.zeros, weight, bias, y + 4 * c, rows // 2,
                            a.ow, a.k - c, a.floor)
                window_tile(2, 1, x + 4 * c, row_last, a.left, a.h, a.w, a.k, a.zeros, weight, bias, y_last + 4 * c,
                            rows % 2, a.ow, a.k - c, a.floor)


@job(dy=PTR, oh=INT, ow=INT, k=INT, weight=PTR, dx=PTR, h=INT, w=INT, top=INT, left=INT, zeros=PTR, spare=PTR, band=INT)
def _spread(first, last, thread, a):
    """A job is a band of pairs of rows of dx."""
    begin, end = a.top // 2, (a.h - 1 + a.top) // 2 + 1
    first_column = a.left // 2
    count = (a.w - 1 + a.left) // 2 + 1 - first_column
    bands = (end - begin + a.band - 1) // a.band
    for j in range(first, last):
        n, m = j // bands, begin + j % bands * a.band
        for c in range(0, a.k, L):
            window_spread(a.dy + 4 * (n * a.oh * a.ow * a.k + c), m, first_column, a.oh, a.ow, a.k, a.zeros,
                          a.weight + 4 * c * 9, a.dx + 4 * (n * a.h * a.w * a.k + c), a.top, a.left, a.h, a.w,
                          a.spare + 4 * L * thread, min(a.band, end - m), count, a.k - c)


@job(dy=PTR, x=PTR, sums=PTR, shares=INT, n=INT, k=INT, h=INT, w=INT, oh=INT, ow=INT, stride=INT, top=INT, left=INT,
     zeros=PTR, band=INT)
def _slide_sums(first, last, thread, a):
    """A job is a share of the images; sums [share][vector of channels][tap][L]."""
    vectors = (a.k + L - 1) // L
    for part in range(first, last):
        sums = a.sums + 4 * part * vectors * 9 * L
        for i in range(vectors * 9):
            vstore(sums, i * L, vsplat(np.float32(0)))
        for n in range(part * a.n // a.shares, (part + 1) * a.n // a.shares):
            x = a.x + 4 * n * a.h * a.w * a.k
            for i in range(0, a.oh, a.band):
                rows = min(a.band, a.oh - i)
                dy = a.dy + 4 * (n * a.oh + i) * a.ow * a.k
                row = i * a.stride - a.top
                for c in range(0, a.k, L):
                    if a.stride == 1:
                        window_sums(1, x + 4 * c, row, a.left, a.h, a.w, a.k, a.zeros, dy + 4 * c, rows, a.ow,
                                    sums + 4 * 9 * c, a.k - c)
                    else:
                        window_sums(2, x + 4 * c, row, a.left, a.h, a.w, a.k, a.zeros, dy + 4 * c, rows, a.ow,
                                    sums + 4 * 9 * c, a.k - c)


@njit
def _edge(a, begin, end, x, d, c, sums):
    """One tap along the output columns begin..end."""
    if begin < end:
        step = a.step_w * a.k
        lane_sums(1, end - begin, x + 4 * begin * step, 0, step, d + 4 * begin * a.k, a.k, sums, a.k - c)


def _repeated(x: np.ndarray, multiplier: int) -> np.ndarray:
    """x with every channel `multiplier` times, channels-last."""
    if multiplier == 1:
        return x
    n, c, h, w = x.shape
    copy = empty_image(n, c * multiplier, h, w)
    copy.transpose(0, 2, 3, 1).reshape(n, h, w, c, multiplier)[...] = x.transpose(0, 2, 3, 1)[..., None]
    return copy


def _even(taps: tuple[int, ...]) -> int:
    """The step between neighbouring taps of a class: they are evenly spaced."""
    return taps[1] - taps[0] if len(taps) > 1 else 0


def _packed(weight: np.ndarray, bias: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Weights [vector of channels][tap][L] and the bias, zeros where a vector is not full."""
    k, taps = weight.shape[0], weight[0].size
    vectors = -(-k // L)
    rows = weight.reshape(k, taps)
    if bias is None:
        start = zeros(vectors * L)
    elif k % L:
        start = np.zeros(vectors * L, np.float32)
        start[:k] = bias
    else:
        start = contiguous(bias)
    if k % L:
        rows = np.zeros((vectors * L, taps), np.float32)
        rows[:k] = weight.reshape(k, taps)
    return np.ascontiguousarray(rows.reshape(vectors, L, taps).swapaxes(1, 2)), start


def _slides(kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]) -> bool:
    """Whether the window of `_window.py` can slide over it."""
    return kernel == (SIZE, SIZE) and stride in ((1, 1), (2, 2)) and dilation == (1, 1)


def _run_window(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, y: np.ndarray, stride: int,
                before: tuple[int, int], floor: float = -np.inf) -> None:
    n, k, h, w = x.shape
    _, _, oh, ow = y.shape
    packed, start = _packed(weight, bias)
    band = max(2, min(-(-oh // 2), _BAND // (stride * w * k)) * 2)
    _slide(n * -(-oh // band), threads=share(y.size * 9), x=x, k=k, h=h, w=w, weight=packed, bias=start, y=y, oh=oh,
           ow=ow, stride=stride, top=before[0], left=before[1], zeros=zeros(L), band=band, floor=floor)


def _run_spread(dy: np.ndarray, weight: np.ndarray, dx: np.ndarray, before: tuple[int, int]) -> None:
    n, k, oh, ow = dy.shape
    _, _, h, w = dx.shape
    pairs = (h - 1 + before[0]) // 2 + 1 - before[0] // 2
    band = max(1, min(pairs, _BAND // (2 * w * k)))
    threads = share(dy.size * 9)
    _spread(n * -(-pairs // band), threads=threads, dy=dy, oh=oh, ow=ow, k=k, weight=_packed(weight, None)[0], dx=dx,
            h=h, w=w, top=before[0], left=before[1], zeros=zeros(L), spare=workspace("depthwise spare", threads * L),
            band=band)


def _run(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, y: np.ndarray, geometry: Geometry,
         floor: float = -np.inf) -> None:
    """One grid of y from x of as many channels."""
    n, k, h, w = x.shape
    taps = weight[0].size
    packed, start = _packed(weight, bias)
    (grid_h, grid_w), step, used = geometry.grid, geometry.step, geometry.used
    rows, columns = geometry.rows, geometry.columns
    inner_begin = min(grid_w, max(0, -(min(columns) // step[1])))
    inner_end = max(inner_begin, min(grid_w, (w - 1 - max(columns)) // step[1] + 1))
    image, row, pixel, place = geometry.out
    _convolve(n * grid_h, threads=share(y.size * taps // 2), x=x, k=k, h=h, w=w,
              weight=packed, taps=taps, bias=start, y=y, y_image=image, y_row=row,
              y_pixel=pixel, y_start=place, grid_h=grid_h, grid_w=grid_w, step_h=step[0], step_w=step[1],
              rows=len(rows), columns=len(columns), first_row=rows[0], first_column=columns[0], next_row=_even(rows),
              next_column=_even(columns), w_start=used[0] * L,
              w_row=(used[len(columns)] - used[0]) * L if len(rows) > 1 else 0,
              w_column=(used[1] - used[0]) * L if len(columns) > 1 else 0, inner_begin=inner_begin,
              inner_end=inner_end, floor=floor)


def forward(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, y: np.ndarray, *, floor: float,
            stride: tuple[int, int], before: tuple[int, int], dilation: tuple[int, int]) -> None:
    """y = max(depthwise conv2d(x, weight) + bias, floor) for channels-last x, y."""
    x, kernel = _repeated(x, y.shape[1] // x.shape[1]), weight.shape[2:]
    if _slides(kernel, stride, dilation):
        _run_window(x, weight, bias, y, stride[0], before, floor)
    else:
        _run(x, weight, bias, y, forward_geometry(y.shape, kernel, stride, before, dilation), floor)


def backward(dy: np.ndarray, weight: np.ndarray, dx: np.ndarray, *, stride: tuple[int, int], before: tuple[int, int],
             dilation: tuple[int, int]) -> None:
    """dx of depthwise conv2d for channels-last dy, dx."""
    n, c, h, w = dx.shape
    k = dy.shape[1]
    target = dx if k == c else empty_image(n, k, h, w)
    kernel = weight.shape[2:]
    slides = _slides(kernel, stride, dilation)
    if slides and stride == (1, 1):
        _run_window(dy, weight[:, :, ::-1, ::-1], None, target, 1, tuple(SIZE - 1 - b for b in before))
    elif slides:
        _run_spread(dy, weight, target, before)
    else:
        classes, gaps = gradient_classes(target.shape, kernel, stride, before, dilation)
        if gaps:
            target[...] = 0  # all of it: one sweep through memory is faster than the gaps alone
        for geometry in classes:
            _run(dy, weight, None, target, geometry)
    if target is not dx:
        target.transpose(0, 2, 3, 1).reshape(n, h, w, c, k // c).sum(-1, out=dx.transpose(0, 2, 3, 1))


def weight_gradient(dy: np.ndarray, x: np.ndarray, dweight: np.ndarray, *, stride: tuple[int, int],
                    before: tuple[int, int], dilation: tuple[int, int]) -> None:
    """dweight of depthwise conv2d for channels-last dy, x."""
    n, k, oh, ow = dy.shape
    _, c, h, w = x.shape
    _, _, r, s = dweight.shape
    shares, vectors = min(get_num_threads(), n), -(-k // L)
    sums = workspace("depthwise sums", shares * vectors * r * s * L)
    x = _repeated(x, k // c)
    if _slides((r, s), stride, dilation):
        band = max(1, _BAND // (w * k))
        _slide_sums(shares, threads=share(dy.size * 9), dy=dy, x=x, sums=sums, shares=shares, n=n, k=k, h=h, w=w,
                    oh=oh, ow=ow, stride=stride[0], top=before[0], left=before[1], zeros=zeros(L), band=band)
    else:
        _weight_sums(shares, threads=share(dy.size * r * s), dy=dy, x=x, sums=sums, shares=shares, n=n,
                     k=k, h=h, w=w, oh=oh, ow=ow, r=r, s=s, step_h=stride[0], step_w=stride[1], top=before[0],
                     left=before[1], dilation_h=dilation[0], dilation_w=dilation[1],
                     columns=tap_ranges(w, ow, s, stride[1], dilation[1], before[1]))
    total = sums[: shares * vectors * r * s * L].reshape(shares, vectors, r * s, L).sum(0)
    dweight.reshape(k, r * s)[...] = total.swapaxes(1, 2).reshape(vectors * L, r * s)[:k]
