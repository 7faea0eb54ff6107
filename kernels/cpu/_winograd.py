"""3 x 3 convolution at stride 1 by Winograd's F(m x m, 3 x 3): the forward pass and the gradient to the input.

A job is a run of output tiles. It takes T tiles at a time, so many that their transforms stay in L2:

    V[f][t][c] = (B^T x_t B)[f]                      f = 1..(m + 2)**2 frequencies, t = 1..T tiles
    M[f][t][k] = sum over c of V[f][t][c] * U[f][c][k]     one matrix product a frequency, on the register tile
    y_t        = A^T M[.][t] A

The bias is where the sums over c start at the frequency of the point (1, 1), which every output takes once; outputs may
be raised to a floor as they are stored (ReLU). U = G w G^T is made once per call. x is read 36/16 (m = 4) or 16/4
(m = 2) times through L1, y is written once, and the products take 2 N OH OW K C (m + 2)**2 / m**2 FLOPs.

The gradient to the input is the same convolution of dy with the filters turned round and their channels exchanged.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
from numba import njit

from ._driver import FLOAT, INT, PTR, get_num_threads, job, share
from ._geometry import zeros
from ._kept import Filters
from ._memory import empty, workspace
from ._pack import pack_backward, pack_forward
from ._tile import NARROW, WIDE, dot_tile
from ._transform import AT, BT, G, sandwich
from .simd import L, lstore, vload, vstore

(_MR0, _NV0), (_MR2, _NV2) = WIDE, NARROW
_TRANSFORM_FLOATS = 110_000  # V of a block of tiles: with M it fills a 1 MB L2, or the better part of a smaller one
_TURNED = tuple(reversed(range(9)))  # taps


@njit
def patch(table, x, tile, h, w, c, tiles_h, tiles_w, m, size, top, left, zeros):
    """table[size][size] = addresses of the pixels of a tile's patch; `zeros` outside the image."""
    n = tile // (tiles_h * tiles_w)
    row = tile // tiles_w % tiles_h * m - top
    column = tile % tiles_w * m - left
    for p in range(size):
        for q in range(size):
            i, j = row + p, column + q
            inside = i >= 0 and i < h and j >= 0 and j < w
            lstore(table, p * size + q, x + 4 * ((n * h + i) * w + j) * c if inside else zeros)


@njit
def transform_input(m, table, v, t, c, pitch):
    """V[.][t] of one tile from the addresses of its patch."""
    for i in range(0, c, L):
        if m == 4:
            sandwich(4, BT, 1, table, i, 0, v + 4 * (t * c + i), 6 * pitch, pitch, None)
        else:
            sandwich(2, BT, 1, table, i, 0, v + 4 * (t * c + i), 4 * pitch, pitch, None)


@job(m=INT, packed=PTR, channels=INT, width=INT, u=PTR)
def _transform_filters(first, last, thread, a):
    """U [block][f][c][width] from packed filters [block][tap][c][width]; a job is one (block, c)."""
    size = (a.m + 2) * (a.m + 2)
    step = a.channels * a.width
    for j in range(first, last):
        block, c = j // a.channels, j % a.channels
        for i in range(0, a.width, L):
            source = a.packed + 4 * (block * 9 * step + c * a.width + i)
            target = a.u + 4 * (block * size * step + c * a.width + i)
            if a.m == 4:
                sandwich(4, G, 0, source, 3 * step, step, target, 6 * step, step, None)
            else:
                sandwich(2, G, 0, source, 3 * step, step, target, 4 * step, step, None)


@job(m=INT, x=PTR, h=INT, w=INT, c=INT, k=INT, oh=INT, ow=INT, top=INT, left=INT, tiles=INT, tiles_h=INT, tiles_w=INT,
     block=INT, u=PTR, bias=PTR, width=INT, part=INT, y=PTR, v=PTR, v_size=INT, products=PTR, products_size=INT,
     tables=PTR, v_rows=PTR, product_rows=PTR, zeros=PTR, floor=FLOAT)
def _tiles(first, last, thread, a):
    """A job is `block` tiles."""
    size = a.m + 2
    frequencies = size * size
    v = a.v + 4 * thread * a.v_size
    products = a.products + 4 * thread * a.products_size
    table = a.tables + 8 * thread * 1024
    edge = table + 4 * 1024
    blocks = a.k // a.width
    part = a.part * a.width
    # One vector more than needed: at a power of two all frequencies would share a few cache sets.
    v_pitch = a.block * a.c + L
    p_pitch = a.block * part + L
    for b in range(first * a.block, min(a.tiles, last * a.block), a.block):
        n = min(a.block, a.tiles - b)
        for t in range(n):
            patch(table, a.x, b + t, a.h, a.w, a.c, a.tiles_h, a.tiles_w, a.m, size, a.top, a.left, a.zeros)
            transform_input(a.m, table, v, t, a.c, v_pitch)
        for k0 in range(0, blocks, a.part):
            for f in range(frequencies):
                for kb in range(k0, min(blocks, k0 + a.part)):
                    u = a.u + 4 * (kb * frequencies + f) * a.c * a.width
                    target = products + 4 * (f * p_pitch + (kb - k0) * a.width)
                    source = v + 4 * f * v_pitch
                    start = a.bias + 4 * kb * a.width if a.bias != 0 and f == size + 1 else a.zeros
                    if a.width == _NV0 * L:
                        for t in range(0, n, _MR0):
                            dot_tile(_MR0, _NV0, source, a.v_rows + 4 * t, 0, a.zeros, 1, a.c, u, start, target,
                                     a.product_rows + 4 * t, a.width, None)
                    else:
                        for t in range(0, n, _MR2):
                            dot_tile(_MR2, _NV2, source, a.v_rows + 4 * t, 0, a.zeros, 1, a.c, u, start, target,
                                     a.product_rows + 4 * t, a.width, None)
            for t in range(n):
                tile = b + t
                i = tile // a.tiles_w % a.tiles_h * a.m
                j = tile % a.tiles_w * a.m
                whole = i + a.m <= a.oh and j + a.m <= a.ow
                for k in range(0, min(part, a.k - k0 * a.width), L):
                    channel = k0 * a.width + k
                    y = a.y + 4 * (((tile // (a.tiles_h * a.tiles_w) * a.oh + i) * a.ow + j) * a.k + channel)
                    source = products + 4 * (t * part + k)
                    # A tile over the edge goes to scratch first.
                    target, row, column = (y, a.ow * a.k, a.k) if whole else (edge, a.m * L, L)
                    if a.m == 4:
                        sandwich(4, AT, 0, source, 6 * p_pitch, p_pitch, target, row, column, a.floor)
                    else:
                        sandwich(2, AT, 0, source, 4 * p_pitch, p_pitch, target, row, column, a.floor)
                    if not whole:
                        for r in range(min(a.m, a.oh - i)):
                            for q in range(min(a.m, a.ow - j)):
                                vstore(y, (r * a.ow + q) * a.k, vload(edge, (r * a.m + q) * L))


@functools.lru_cache(256)
def rows(count: int, pitch: int, tile: int) -> np.ndarray:
    """Offsets of `count` rows, the last repeated to fill the last register tile."""
    return np.minimum(np.arange(count + tile), count - 1).astype(np.int32) * np.int32(pitch)


@functools.lru_cache(512)
def _transforms(m: int, channels: int, filters: int, width: int, threads: int) -> Callable[..., None]:
    return _transform_filters.plan(filters // width * channels, threads=threads, m=m, channels=channels, width=width)


def _transformed(packed: np.ndarray, m: int, channels: int, filters: int, width: int, keep: bool) -> np.ndarray:
    floats = (m + 2) ** 2 * channels * filters
    u = empty((floats,)) if keep else workspace("winograd U", floats)
    _transforms(m, channels, filters, width, share(floats))(packed=packed, u=u)
    return u


def _width(filters: int) -> int:
    return _NV0 * L if filters % (_NV0 * L) == 0 else _NV2 * L


@functools.lru_cache(512)
def _plan(x_shape: tuple[int, ...], y_shape: tuple[int, ...], m: int, before: tuple[int, int], floor: float,
          threads: int) -> tuple[Callable[..., None], int, int, int]:
    """The call for these shapes, and the floats of the three workspaces that it needs."""
    n, c, h, w = x_shape
    _, k, oh, ow = y_shape
    width = _width(k)
    tile = _MR0 if width == _NV0 * L else _MR2
    size = m + 2
    tiles_h, tiles_w = -(-oh // m), -(-ow // m)
    tiles = n * tiles_h * tiles_w
    block = max(2 * tile, min(96 if m == 4 else 192, _TRANSFORM_FLOATS // (size * size * c) // tile * tile))
    block = min(block, -(-tiles // threads))
    # Output channels are taken a part at a time, so that a frequency's U and M stay in L2 beside V.
    part = k // width if c >= 256 else 1 if c >= 64 else min(k // width, 2)
    jobs = -(-tiles // block)
    threads = min(threads, jobs)
    v_size, products_size = size * size * (block * c + L), size * size * (block * part * width + L)
    run = _tiles.plan(
        jobs, threads=threads, m=m, h=h, w=w, c=c, k=k, oh=oh, ow=ow, top=before[0], left=before[1], tiles=tiles,
        tiles_h=tiles_h, tiles_w=tiles_w, block=block, width=width, part=part, v_size=v_size,
        products_size=products_size, v_rows=rows(block, c, tile), product_rows=rows(block, part * width, tile),
        zeros=zeros(max(c, k, 2 * L)), floor=floor)
    return run, threads * v_size, threads * products_size, threads * 2048


def _run(x: np.ndarray, u: np.ndarray, bias: np.ndarray | None, y: np.ndarray, m: int, before: tuple[int, int],
         floor: float = -np.inf) -> None:
    run, v, products, tables = _plan(x.shape, y.shape, m, before, floor, get_num_threads())
    run(x=x, u=u, bias=bias, y=y, v=workspace("winograd V", v), products=workspace("winograd M", products),
        tables=workspace("winograd tables", tables))


def forward(x: np.ndarray, filters: Filters, bias: np.ndarray | None, y: np.ndarray, *, m: int, floor: float,
            before: tuple[int, int]) -> None:
    """y = max(conv2d(x, filters) + bias, floor) for channels-last x, y."""
    k, c, _, _ = filters.shape

    def build(weight: np.ndarray) -> np.ndarray:
        return _transformed(pack_forward(weight, 1, _width(k)), m, c, k, _width(k), filters.keep)
    bias = None if bias is None else np.ascontiguousarray(bias)
    _run(x, filters.packed(("winograd", m), build), bias, y, m, before, floor)


def backward(dy: np.ndarray, weight: np.ndarray, dx: np.ndarray, *, m: int, before: tuple[int, int]) -> None:
    """dx = gradient of conv2d to its input for channels-last dy, dx."""
    k, c, _, _ = weight.shape
    turned = pack_backward(weight, 1, _width(c), _TURNED)
    _run(dy, _transformed(turned, m, k, c, _width(c), keep=False), None, dx, m, (2 - before[0], 2 - before[1]))
