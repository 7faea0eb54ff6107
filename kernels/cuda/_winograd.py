"""3 × 3 convolution at stride 1 by Winograd's F(2 × 2, 3 × 3), in strict float32, for any GPU.

A tile is 2 × 2 outputs, and the patch of 4 × 4 pixels that they need. With the matrices of `_winograd_transforms.py`

    V[t, f, c] = (Bᵀ d B)[f]                    d: the patch of tile t, channel c; f = 1…16 frequencies
    U[f, c, k] = (G w Gᵀ)[f]                    w: the 3 × 3 weights of filter k, channel c
    M[t, f, k] = Σ_c V[t, f, c] · U[f, c, k]    16 products of matrices
    y[t, k]    = Aᵀ M[t, ·, k] A

takes 16 products for the 36 of the direct sum. V is an image of as many pixels as tiles with 16 groups of C channels,
and the products are its convolution by 1 × 1 in groups: the kernels of `_implicit_gemm.py`.

The gradient to the input of stride 1 is the same convolution of dy with the taps turned round and the roles of filters
and channels exchanged (`_window.py`). The gradient to the weight is the adjoint. On one axis y = Aᵀ[(G w) ⊙ (Bᵀ d)],
so Σ dy · y = Σ (A dy) ⊙ (G w) ⊙ (Bᵀ d), whose gradient to w is Gᵀ[(A dy) ⊙ (Bᵀ d)]; on two axes, for all tiles,

    D[t, f, k]    = (A dy Aᵀ)[f]
    dU[f, k, c]   = Σ_t D[t, f, k] · V[t, f, c]             `_wgrad.py`, 16 groups
    dweight[k, c] = Gᵀ dU[·, k, c] G

As exact as the direct sum: the transforms only add, subtract and halve, and a sum has a ninth of the terms.

Roofline: for a pixel 8 C K operations, not 18 C K; but V, M and D go to memory and back, 32 (C + K) bytes more. The
tiles are taken a slice at a time, so that these arrays stay below SLICE bytes: that bounds the memory, keeps most of
them in the second-level cache of a large card, and still makes two waves of blocks on it (with K = C the tiles of
128 × 128 are 512, whatever C).

Source: Winograd (1980), Arithmetic Complexity of Computations; Lavin and Gray (2016), Fast Algorithms for Convolutional
Neural Networks, arXiv:1509.09308.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from . import _implicit_gemm, _wgrad
from ._layout import Array, blocks, empty_image
from ._memory import empty
from ._window import Axis, forward_axis
from ._winograd_transforms import (
    ACROSS,
    FREQUENCIES,
    LOT,
    THREADS,
    TILE,
    VECTOR,
    winograd_filters,
    winograd_gradient,
    winograd_input,
    winograd_output,
    winograd_output_statistics,
    winograd_weight,
)

SLICE = 1 << 26  # bytes
ROWS = 128  # a slice has whole tiles of the products, and whole lots of statistics
_POINT = (forward_axis(1, 1, 1, 0, 1),) * 2


def supports(x_dtype: np.dtype, y_dtype: np.dtype, groups: int, channels: int, filters: int,
             window: tuple[Axis, Axis]) -> bool:
    """Whether these kernels can do this convolution: 3 × 3, stride 1, whole vectors of channels and filters."""
    strict = x_dtype == y_dtype == np.float32
    return strict and groups == 1 and channels % VECTOR == filters % VECTOR == 0 and all(map(_suits, window))


def _suits(axis: Axis) -> bool:
    whole = (axis.step, axis.out, axis.pitch, axis.first, axis.every) == (1, 0, 1, 0, 1)
    return axis.taps == 3 and abs(axis.move) == 1 and whole


def tile_count(images: int, window: tuple[Axis, Axis]) -> int:
    """The tiles of 2 × 2 outputs."""
    return images * blocks(window[0].count, TILE) * blocks(window[1].count, TILE)


def tiles(x_shape: tuple, y_shape: tuple, groups: int, window: tuple[Axis, Axis]) -> list[_implicit_gemm.Tile]:
    """The tiles of the products, the one that is chosen without a measurement first."""
    channels, filters = x_shape[1], y_shape[1]
    count = min(tile_count(x_shape[0], window), _most(channels, filters))
    v, m = ((count, FREQUENCIES * width, 1, 1) for width in (channels, filters))
    return _implicit_gemm.tiles(4, v, m, FREQUENCIES, _POINT)


def wgrad_tiles(x_shape: tuple, weight_shape: tuple, groups: int, window: tuple[Axis, Axis]) -> list[_wgrad.Tile]:
    """The same for the products of the gradient to the weight."""
    filters, channels = weight_shape[:2]
    count = min(tile_count(x_shape[0], window), _most(channels, filters))
    v, du = (count, FREQUENCIES * channels, 1, 1), (FREQUENCIES * filters, channels, 1, 1)
    return _wgrad.wgrad_tiles(v, du, FREQUENCIES, _POINT)


def _most(channels: int, filters: int) -> int:
    """The tiles of a slice."""
    return max(SLICE // (4 * FREQUENCIES * (channels + filters)) // ROWS, 1) * ROWS


def _slices(count: int, channels: int, filters: int) -> Iterator[tuple[int, int]]:
    """Runs (first, length) of the tiles, as even as ROWS allow."""
    runs = blocks(count, _most(channels, filters))
    each = blocks(blocks(count, max(runs, 1)), ROWS) * ROWS
    for first in range(0, count, max(each, 1)):
        yield first, min(each, count - first)


def lots(images: int, window: tuple[Axis, Axis]) -> int:
    """How many lots of pixels `convolve` leaves statistics of: of LOT tiles of 2 × 2."""
    return blocks(tile_count(images, window), LOT)


def pack(weight: Array, groups: int, window: tuple[Axis, Axis], transposed: bool) -> Array:
    """U (16, C, K) of a contiguous weight (K, C, 3, 3), or with `transposed` (16, K, C), for `convolve`."""
    filters, channels = weight.shape[:2]
    u = empty((FREQUENCIES, *((filters, channels) if transposed else (channels, filters))))
    winograd_filters(blocks(filters * channels, THREADS), weight, u, filters * channels, filters, channels,
                     *(axis.move < 0 for axis in window), transposed)
    return u


def convolve(x: Array, u: Array, y: Array, groups: int, window: tuple[Axis, Axis], scale: Array | None = None,
             bias: Array | None = None, rectify: bool = False, residual: Array | None = None,
             sets: tuple[Array, Array, Array] | None = None, *, tile: _implicit_gemm.Tile) -> None:
    """Fill y = act(scale · (x ⋆ weight) + bias + residual); all channels-last float32, u from `pack`.

    `sets` take counts, means and squared deviations of y: (`lots`, channels) float32 each.
    """
    channels, filters = x.shape[1], y.shape[1]
    grid = [blocks(axis.count, TILE) for axis in window]
    runs = list(_slices(tile_count(len(x), window), channels, filters))
    largest = max((length for _, length in runs), default=0)
    v, m = (empty_image(largest, FREQUENCIES * width, 1, 1) for width in (channels, filters))
    for first, length in runs:
        _transform_input(x, v, first, length, grid, window)
        _implicit_gemm.convolve(v[:length], u, m[:length], FREQUENCIES, _POINT, tile=tile)
        vectors, work = filters // VECTOR, length * (filters // VECTOR)
        rest = (first, vectors, *y.shape[2:], *grid, scale is not None, bias is not None, residual is not None, rectify)
        if sets is None:
            winograd_output(blocks(work, THREADS), m, y, scale, bias, residual, work, *rest)
        else:
            winograd_output_statistics((blocks(length, LOT), blocks(vectors, ACROSS)), m, y, scale, bias, residual,
                                       *sets, length, *rest)


def wgrad(dy: Array, x: Array, weight_shape: tuple[int, int, int, int], groups: int, window: tuple[Axis, Axis], *,
          tile: _wgrad.Tile) -> Array:
    """dweight (K, C, 3, 3) from dy and x, channels-last float32; `window` is the forward convolution's."""
    filters, channels = weight_shape[:2]
    grid = [blocks(axis.count, TILE) for axis in window]
    runs = list(_slices(tile_count(len(x), window), channels, filters))
    largest = max((length for _, length in runs), default=0)
    v, d = (empty_image(largest, FREQUENCIES * width, 1, 1) for width in (channels, filters))
    shape = (FREQUENCIES * filters, channels, 1, 1)
    parts = _wgrad.shares(shape, FREQUENCIES, largest, tile)
    partial = empty((len(runs), parts, FREQUENCIES * filters, channels))
    for (first, length), sums in zip(runs, partial):
        _transform_input(x, v, first, length, grid, window)
        work = length * (filters // VECTOR)
        winograd_gradient(blocks(work, THREADS), dy, d, work, first, filters // VECTOR, *dy.shape[2:], *grid)
        _wgrad.multiply_shares(d[:length], v[:length], sums, shape, FREQUENCIES, _POINT, tile)
    dweight, size = empty(weight_shape), filters * channels
    winograd_weight(blocks(size, THREADS), partial, dweight, size, len(runs) * parts)
    return dweight


def _transform_input(x: Array, v: Array, first: int, length: int, grid: list[int], window: tuple[Axis, Axis]) -> None:
    vectors = x.shape[1] // VECTOR
    # A window that goes backwards begins with its last tap: `pack` turns the taps round.
    top, left = (axis.start + min(2 * axis.move, 0) for axis in window)
    winograd_input(blocks(length * vectors, THREADS), x, v, length * vectors, first, vectors, *x.shape[2:], *grid, top,
                   left)
