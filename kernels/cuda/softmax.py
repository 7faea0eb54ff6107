"""Softmax and its logarithm along any axis.

Where the classes lie side by side in memory, and up to 1024 of them, a power of two of threads, at most a warp, holds a
row in registers. Rows of 21 classes, for example, are shared by 4 threads each:

    thread    0 1 2 3 0 1 2 3 0 1 2 3 0 1 2 3 0 1 2 3 0 | 4 5 6 7 4 5 6 7 …
    class     0 1 2 3 4 5 6 7 …                      20 | 0 1 2 3 4 …

and the threads take vectors of 16 bytes instead if these fit into a row. Everything is read and written once: at copy
bandwidth 8 bytes an element of float32, backward 12. A longer row has a block of its own, which reads it twice, the
second time mostly from the L2 cache. Where the classes lie apart, a thread goes twice along a few neighbouring columns.

Whoever does not hold all classes keeps the largest yet and the sum of exponentials relative to it (Milakov and
Gimelshein 2018, arXiv:1805.02867). The formulas are those of `kernels/reference/softmax.py`.
"""

from __future__ import annotations

import math

import numpy as np

from ._layout import Array, blocks, copied, deliver, dense, empty_like, like, memory_order
from ._math import INFINITY, NAN, ONE, ZERO, absolute, exp, fma, log
from ._numba import cuda, device, types
from ._pixels import QUAD, THREADS, WIDEST, both_kinds, pieces, quotient, reciprocal_of
from ._reduce import block_largest, block_sum
from .launch import FLOAT, INT, LONG, STORAGE, Kernel, kernel
from .ptx import lanes, load, load_vector, reciprocal, shuffle_xor, store, store_vector

_WARPS = THREADS // 32
_SHORT, _LONG, _VECTORS = 8, 32, 2  # classes that a thread holds; vectors of 4 of the former
_AT_ONCE = 2  # classes of a column
_FEW = 4096  # columns: with fewer, their classes are brought side by side


# ---------------------------------------------------------------- a row among threads
def _row(room: int) -> tuple:
    """read and write for what a thread has of a row: at most `room` classes, in arrays (room // 4, WIDEST).

    Vector v, lane l of member m of a group holds class (v group + m) width + l, or (v width + l) group + m if the row
    is read one by one; what is not there stays as it is.
    """

    @device
    def read(held, p, start, member, group, left, vector):
        width = lanes(p)
        for v in range(room // width):
            if vector:
                c = (v * group + member) * width
                if c < left:
                    load_vector(held[v], p, start + c)
            else:
                for lane in range(width):
                    c = (v * width + lane) * group + member
                    if c < left:
                        held[v, lane] = load(p, start + c)

    @device
    def write(p, start, held, member, group, left, vector):
        width = lanes(p)
        for v in range(room // width):
            if vector:
                c = (v * group + member) * width
                if c < left:
                    store_vector(p, start + c, held[v])
            else:
                for lane in range(width):
                    c = (v * width + lane) * group + member
                    if c < left:
                        store(p, start + c, held[v, lane])

    return read, write


@device
def _group_sum(value, group):
    """The sum over the threads of a row, whose number is the same for all rows."""
    if group > 16:
        value += shuffle_xor(value, 16)
    if group > 8:
        value += shuffle_xor(value, 8)
    if group > 4:
        value += shuffle_xor(value, 4)
    if group > 2:
        value += shuffle_xor(value, 2)
    if group > 1:
        value += shuffle_xor(value, 1)
    return value


@device
def _above(a, b):
    return a if a > b else b


@device
def _group_largest(value, group):
    if group > 16:
        value = _above(value, shuffle_xor(value, 16))
    if group > 8:
        value = _above(value, shuffle_xor(value, 8))
    if group > 4:
        value = _above(value, shuffle_xor(value, 4))
    if group > 2:
        value = _above(value, shuffle_xor(value, 2))
    if group > 1:
        value = _above(value, shuffle_xor(value, 1))
    return value


@device
def _grown(top, total, value, scale):
    """The largest value and the sum of exponentials relative to it, with one more value; -inf adds nothing."""
    if value == -INFINITY:
        return top, total
    e = exp(-absolute(value - top) * scale)
    if value > top:
        return value, total * e + ONE
    return top, total + e


@device
def _ends(total, logarithm):
    """(a, b) that make of what a row holds, e^d or d, its result a · that + b."""
    if logarithm:
        return ONE, -log(total)
    return reciprocal(total), ZERO


@device
def _gradient(dy, y, total, scale, logarithm):
    return dy - exp(y) * total if logarithm else y * (dy - total) * scale


# ---------------------------------------------------------------- kernels
def _held(room: int) -> tuple[Kernel, Kernel]:
    read, write = _row(room)
    vectors = room // 4

    @kernel(block=THREADS, x=STORAGE, y=STORAGE, rows=INT, classes=INT, shift=INT, vector=INT, scale=FLOAT,
            logarithm=INT)  # fmt: skip
    def softmax_rows(x, y, rows, classes, shift, vector, scale, logarithm):
        """Rows that lie side by side, each held by 2^shift threads."""
        held = cuda.local.array((vectors, WIDEST), types.float32)
        width, group = lanes(x), np.int32(1 << shift)
        thread = cuda.blockIdx.x * THREADS + cuda.threadIdx.x
        row, member = np.int32(thread >> shift), np.int32(thread & (group - 1))
        left = classes if row < rows else np.int32(0)  # every lane of a warp stays for the sums
        start = np.int64(row) * classes
        for v in range(room // width):
            for lane in range(width):
                held[v, lane] = -INFINITY
        read(held, x, start, member, group, left, vector)
        top = -INFINITY
        for v in range(room // width):
            for lane in range(width):
                top = _above(held[v, lane], top)
        top = _group_largest(top, group)
        total = ZERO
        for v in range(room // width):
            for lane in range(width):
                d = (held[v, lane] - top) * scale  # inf - inf, all over a row of nothing but -inf, is NaN as it shall
                e = exp(d)
                total += e
                held[v, lane] = d if logarithm else e
        a, b = _ends(_group_sum(total, group), logarithm)
        for v in range(room // width):
            for lane in range(width):
                held[v, lane] = fma(held[v, lane], a, b)
        write(y, start, held, member, group, left, vector)

    @kernel(block=THREADS, dy=STORAGE, y=STORAGE, dx=STORAGE, rows=INT, classes=INT, shift=INT, vector=INT, scale=FLOAT,
            logarithm=INT)  # fmt: skip
    def softmax_rows_backward(dy, y, dx, rows, classes, shift, vector, scale, logarithm):
        """Gradients of such rows."""
        held = cuda.local.array((vectors, WIDEST), types.float32)
        result = cuda.local.array((vectors, WIDEST), types.float32)
        width, group = lanes(y), np.int32(1 << shift)
        thread = cuda.blockIdx.x * THREADS + cuda.threadIdx.x
        row, member = np.int32(thread >> shift), np.int32(thread & (group - 1))
        left = classes if row < rows else np.int32(0)
        start = np.int64(row) * classes
        for v in range(room // width):
            for lane in range(width):
                held[v, lane] = ZERO
                result[v, lane] = ZERO
        read(held, dy, start, member, group, left, vector)
        read(result, y, start, member, group, left, vector)
        total = ZERO
        for v in range(room // width):
            for lane in range(width):
                total += held[v, lane] * (ONE if logarithm else result[v, lane])
        total = _group_sum(total, group)
        for v in range(room // width):
            for lane in range(width):
                held[v, lane] = _gradient(held[v, lane], result[v, lane], total, scale, logarithm)
        write(dx, start, held, member, group, left, vector)

    return softmax_rows, softmax_rows_backward


_rows = {room: _held(room) for room in (_SHORT, _LONG)}
_read, _write = _row(_SHORT)
_CHUNK = THREADS * _SHORT


@kernel(block=THREADS, x=STORAGE, y=STORAGE, classes=INT, vector=INT, scale=FLOAT, logarithm=INT)
def _softmax_long(x, y, classes, vector, scale, logarithm):
    """A row that lies side by side, for a block."""
    held = cuda.local.array((_VECTORS, WIDEST), types.float32)
    shared = cuda.shared.array(_WARPS, types.float32)
    width, member = lanes(x), np.int32(cuda.threadIdx.x)
    top, total = -INFINITY, ZERO
    for chunk in range(0, classes, _CHUNK):
        start, left = np.int64(cuda.blockIdx.x) * classes + chunk, np.int32(classes - chunk)
        for v in range(_SHORT // width):
            for lane in range(width):
                held[v, lane] = -INFINITY
        _read(held, x, start, member, THREADS, left, vector)
        for v in range(_SHORT // width):
            for lane in range(width):
                top, total = _grown(top, total, held[v, lane], scale)
    largest = block_largest(top, shared, _WARPS)
    total = block_sum(total if top == largest else total * exp((top - largest) * scale), shared, _WARPS)
    a, b = _ends(NAN if largest == INFINITY else total, logarithm)
    for chunk in range(0, classes, _CHUNK):
        start, left = np.int64(cuda.blockIdx.x) * classes + chunk, np.int32(classes - chunk)
        _read(held, x, start, member, THREADS, left, vector)
        for v in range(_SHORT // width):
            for lane in range(width):
                d = (held[v, lane] - largest) * scale
                held[v, lane] = fma(d if logarithm else exp(d), a, b)
        _write(y, start, held, member, THREADS, left, vector)


@kernel(block=THREADS, dy=STORAGE, y=STORAGE, dx=STORAGE, classes=INT, vector=INT, scale=FLOAT, logarithm=INT)
def _softmax_long_backward(dy, y, dx, classes, vector, scale, logarithm):
    """The gradient of such a row."""
    held = cuda.local.array((_VECTORS, WIDEST), types.float32)
    result = cuda.local.array((_VECTORS, WIDEST), types.float32)
    shared = cuda.shared.array(_WARPS, types.float32)
    width, member = lanes(y), np.int32(cuda.threadIdx.x)
    total = ZERO
    for chunk in range(0, classes, _CHUNK):
        start, left = np.int64(cuda.blockIdx.x) * classes + chunk, np.int32(classes - chunk)
        for v in range(_SHORT // width):
            for lane in range(width):
                held[v, lane] = ZERO
                result[v, lane] = ZERO
        _read(held, dy, start, member, THREADS, left, vector)
        _read(result, y, start, member, THREADS, left, vector)
        for v in range(_SHORT // width):
            for lane in range(width):
                total += held[v, lane] * (ONE if logarithm else result[v, lane])
    total = block_sum(total, shared, _WARPS)
    for chunk in range(0, classes, _CHUNK):
        start, left = np.int64(cuda.blockIdx.x) * classes + chunk, np.int32(classes - chunk)
        _read(held, dy, start, member, THREADS, left, vector)
        _read(result, y, start, member, THREADS, left, vector)
        for v in range(_SHORT // width):
            for lane in range(width):
                held[v, lane] = _gradient(held[v, lane], result[v, lane], total, scale, logarithm)
        _write(dx, start, held, member, THREADS, left, vector)


@both_kinds(x=STORAGE, y=STORAGE, threads=INT, classes=INT, inner=INT, share=INT, by_share=LONG, scale=FLOAT,
            logarithm=INT)  # fmt: skip
def _softmax_columns(vector):
    size, read, write = pieces(vector)

    def columns(x, y, threads, classes, inner, share, by_share, scale, logarithm):
        """Classes that lie `inner` apart; a thread has a piece of the columns between them."""
        thread = np.int32(cuda.blockIdx.x * THREADS + cuda.threadIdx.x)
        if thread >= threads:
            return
        value = cuda.local.array((_AT_ONCE, WIDEST), types.float32)
        top = cuda.local.array(WIDEST, types.float32)
        total = cuda.local.array(WIDEST, types.float32)
        width = size(x)
        outer = quotient(thread, by_share)
        first = np.int32((thread - outer * share) * width)
        start, left = np.int64(outer) * classes * inner + first, np.int32(inner - first)
        for lane in range(width):
            top[lane], total[lane] = -INFINITY, ZERO
        for c in range(0, classes, _AT_ONCE):
            for k in range(_AT_ONCE):
                for lane in range(width):
                    value[k, lane] = -INFINITY
                read(value[k], x, start + np.int64(c + k) * inner, left if c + k < classes else np.int32(0))
            for k in range(_AT_ONCE):
                for lane in range(width):
                    top[lane], total[lane] = _grown(top[lane], total[lane], value[k, lane], scale)
        for c in range(0, classes, _AT_ONCE):
            for k in range(_AT_ONCE):
                read(value[k], x, start + np.int64(c + k) * inner, left if c + k < classes else np.int32(0))
            for k in range(_AT_ONCE):
                for lane in range(width):
                    a, b = _ends(NAN if top[lane] == INFINITY else total[lane], logarithm)
                    d = (value[k, lane] - top[lane]) * scale
                    value[k, lane] = fma(d if logarithm else exp(d), a, b)
                write(y, start + np.int64(c + k) * inner, value[k], left if c + k < classes else np.int32(0))

    return columns


@both_kinds(dy=STORAGE, y=STORAGE, dx=STORAGE, threads=INT, classes=INT, inner=INT, share=INT, by_share=LONG,
            scale=FLOAT, logarithm=INT)  # fmt: skip
def _softmax_columns_backward(vector):
    size, read, write = pieces(vector)

    def columns(dy, y, dx, threads, classes, inner, share, by_share, scale, logarithm):
        """Gradients of such classes."""
        thread = np.int32(cuda.blockIdx.x * THREADS + cuda.threadIdx.x)
        if thread >= threads:
            return
        value = cuda.local.array((_AT_ONCE, WIDEST), types.float32)
        result = cuda.local.array((_AT_ONCE, WIDEST), types.float32)
        total = cuda.local.array(WIDEST, types.float32)
        width = size(y)
        outer = quotient(thread, by_share)
        first = np.int32((thread - outer * share) * width)
        start, left = np.int64(outer) * classes * inner + first, np.int32(inner - first)
        for lane in range(width):
            total[lane] = ZERO
        for c in range(0, classes, _AT_ONCE):
            for k in range(_AT_ONCE):
                for lane in range(width):
                    value[k, lane] = ZERO
                    result[k, lane] = ZERO
                rest = left if c + k < classes else np.int32(0)
                read(value[k], dy, start + np.int64(c + k) * inner, rest)
                read(result[k], y, start + np.int64(c + k) * inner, rest)
            for k in range(_AT_ONCE):
                for lane in range(width):
                    total[lane] += value[k, lane] * (ONE if logarithm else result[k, lane])
        for c in range(0, classes, _AT_ONCE):
            for k in range(_AT_ONCE):
                rest = left if c + k < classes else np.int32(0)
                read(value[k], dy, start + np.int64(c + k) * inner, rest)
                read(result[k], y, start + np.int64(c + k) * inner, rest)
            for k in range(_AT_ONCE):
                for lane in range(width):
                    value[k, lane] = _gradient(value[k, lane], result[k, lane], total[lane], scale, logarithm)
                write(dx, start + np.int64(c + k) * inner, value[k], left if c + k < classes else np.int32(0))

    return columns


# ---------------------------------------------------------------- functions
def softmax(x: Array, *, dim: int, temperature: float = 1.0, out: Array | None = None) -> Array:
    """y_i = e^(x_i / T) / Σ_j e^(x_j / T) along axis `dim`; a row of NaN or +∞, or nothing but -∞, is all NaN."""
    return _forward(x, dim, 1 / temperature, False, out)


def softmax_backward(
    dy: Array, y: Array, *, dim: int, temperature: float = 1.0, out: Array | None = None
) -> Array:
    """dx = y (dy - Σ dy y) / T, the sum along axis `dim`; y is what `softmax` returned."""
    return _backward(dy, y, dim, 1 / temperature, False, out)


def log_softmax(x: Array, *, dim: int, out: Array | None = None) -> Array:
    """The logarithm of softmax along axis `dim`, at temperature 1."""
    return _forward(x, dim, 1.0, True, out)


def log_softmax_backward(dy: Array, y: Array, *, dim: int, out: Array | None = None) -> Array:
    """dx = dy - e^y Σ dy, the sum along axis `dim`; y is what `log_softmax` returned."""
    return _backward(dy, y, dim, 1.0, True, out)


def _forward(x, dim, scale, logarithm, out):
    x, inner = _arranged(x, dim)
    y = empty_like(x)
    kernels = {room: pair[0] for room, pair in _rows.items()}
    _run(kernels, _softmax_long, _softmax_columns, (x, y), x.shape[dim], inner, scale, logarithm)
    return deliver(y, out)


def _backward(dy, y, dim, scale, logarithm, out):
    y, inner = _arranged(y, dim)
    dy, dx = like(dy, y), empty_like(y)
    kernels = {room: pair[1] for room, pair in _rows.items()}
    _run(kernels, _softmax_long_backward, _softmax_columns_backward, (dy, y, dx), y.shape[dim], inner, scale, logarithm)
    return deliver(dx, out)


def _arranged(x: Array, dim: int) -> tuple[Array, int]:
    """x with dense memory, and how far its classes lie apart."""
    x = dense(x)
    order = memory_order(x)
    inner = math.prod(x.shape[axis] for axis in order[order.index(dim % x.ndim) + 1 :])
    if inner > 1 and x.size < x.shape[dim] * min(_FEW, x.shape[dim]):
        return copied(x, (*(axis for axis in order if axis != dim % x.ndim), dim % x.ndim)), 1
    return x, inner


def _run(rows, long, columns, arrays, classes, inner, scale, logarithm):
    """Queue the kernel that suits so many classes, so far apart."""
    x = arrays[0]
    if x.size == 0:
        return
    width, count = 16 // x.itemsize, x.size // classes
    if inner > 1:
        vector = inner % width == 0
        share = blocks(inner, width if vector else QUAD)
        threads = count // inner * share
        columns[vector](
            blocks(threads, THREADS), *arrays, threads, classes, inner, share, reciprocal_of(share), scale, logarithm)
    elif classes > 32 * _LONG:
        long(count, *arrays, classes, classes % width == 0, scale, logarithm)
    else:
        shift = min(5, (blocks(classes, _SHORT) - 1).bit_length())
        room = _SHORT if classes <= _SHORT << shift else _LONG
        rows[room](
            blocks(count << shift, THREADS), *arrays, count, classes, shift, classes % width == 0, scale, logarithm)
