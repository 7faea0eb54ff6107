"""The weight gradient of a 3 x 3 convolution at stride 1 in Winograd's domain.

    dU[f][c][k] = sum over tiles t of V[f][t][c] * D[f][t][k],   V = B^T x B,   D = A dy A^T,   dw = G^T dU G

(the adjoint of the forward pass; (m + 2)**2 / m**2 products where the direct sum takes 9). A job is a share of the
tiles with its own dU; it takes T tiles at a time, so many that V and D stay in L2. The last step adds the shares in
their order.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from ._driver import INT, PTR, get_num_threads, job
from ._geometry import zeros
from ._memory import workspace
from ._tile import outer_tile
from ._transform import GT, A, sandwich
from ._wgrad import combine
from ._winograd import patch, transform_input
from .simd import L, vsplat, vstore

# (MR, NV) by lanes; MR divides L, so every tile of MR input channels is whole.
(_MR0, _NV0), (_MR1, _NV1), (_MR2, _NV2) = {
    16: ((8, 2), (8, 3), (16, 1)), 8: ((4, 2), (4, 3), (8, 1)), 4: ((4, 2), (4, 3), (4, 1))}[L]
_TRANSFORM_FLOATS = 160_000  # V and D of a block of tiles: half a megabyte or more of a 1 MB L2


@job(m=INT, x=PTR, h=INT, w=INT, c=INT, dy=PTR, oh=INT, ow=INT, k=INT, top=INT, left=INT, tiles=INT, tiles_h=INT,
     tiles_w=INT, shares=INT, block=INT, vectors=INT, v=PTR, v_size=INT, d=PTR, d_size=INT, du=PTR, du_size=INT,
     sums=PTR, sums_size=INT, tables=PTR, zeros=PTR)
def _accumulate(first, last, thread, a):
    """A job is one share of the tiles."""
    size = a.m + 2
    v, d = a.v + 4 * thread * a.v_size, a.d + 4 * thread * a.d_size
    du, table = a.du + 4 * thread * a.du_size, a.tables + 8 * thread * 64
    v_pitch, d_pitch, u_pitch = a.block * a.c + L, a.block * a.k + L, a.c * a.k
    zero = vsplat(np.float32(0))
    for share in range(first, last):
        for i in range(0, size * size * u_pitch, L):
            vstore(du, i, zero)
        end = (share + 1) * a.tiles // a.shares
        for b in range(share * a.tiles // a.shares, end, a.block):
            n = min(a.block, end - b)
            for t in range(n):
                patch(table, a.x, b + t, a.h, a.w, a.c, a.tiles_h, a.tiles_w, a.m, size, a.top, a.left, a.zeros)
                transform_input(a.m, table, v, t, a.c, v_pitch)
                patch(table, a.dy, b + t, a.oh, a.ow, a.k, a.tiles_h, a.tiles_w, a.m, a.m, 0, 0, a.zeros)
                for k in range(0, a.k, L):
                    if a.m == 4:
                        sandwich(4, A, 1, table, k, 0, d + 4 * (t * a.k + k), 6 * d_pitch, d_pitch, None)
                    else:
                        sandwich(2, A, 1, table, k, 0, d + 4 * (t * a.k + k), 4 * d_pitch, d_pitch, None)
            for f in range(size * size):
                for k in range(0, a.k, a.vectors * L):
                    df = d + 4 * (f * d_pitch + k)
                    if a.vectors == _NV0:
                        for c in range(0, a.c, _MR0):
                            outer_tile(_MR0, _NV0, 1, 1, n, v + 4 * (f * v_pitch + c), 0, 0, a.c, df, 0, 0, a.k, L,
                                       du + 4 * (f * u_pitch + c * a.k + k), a.k)
                    elif a.vectors == _NV1:
                        for c in range(0, a.c, _MR1):
                            outer_tile(_MR1, _NV1, 1, 1, n, v + 4 * (f * v_pitch + c), 0, 0, a.c, df, 0, 0, a.k, L,
                                       du + 4 * (f * u_pitch + c * a.k + k), a.k)
                    else:
                        for c in range(0, a.c, _MR2):
                            outer_tile(_MR2, _NV2, 1, 1, n, v + 4 * (f * v_pitch + c), 0, 0, a.c, df, 0, 0, a.k, L,
                                       du + 4 * (f * u_pitch + c * a.k + k), a.k)
        sums = a.sums + 4 * share * a.sums_size
        for i in range(0, u_pitch, L):
            if a.m == 4:
                sandwich(4, GT, 0, du + 4 * i, 6 * u_pitch, u_pitch, sums + 4 * i, 3 * u_pitch, u_pitch, None)
            else:
                sandwich(2, GT, 0, du + 4 * i, 4 * u_pitch, u_pitch, sums + 4 * i, 3 * u_pitch, u_pitch, None)


@functools.lru_cache(512)
def _plan(x_shape: tuple[int, ...], dy_shape: tuple[int, ...], m: int, before: tuple[int, int],
          threads: int) -> tuple[Callable[..., None], int, int, int, int]:
    """The call for these shapes, the shares, and the floats of V, D and dU that each of them needs."""
    n, c, h, w = x_shape
    _, k, oh, ow = dy_shape
    size = m + 2
    tiles_h, tiles_w = -(-oh // m), -(-ow // m)
    tiles = n * tiles_h * tiles_w
    shares = min(threads, tiles)
    block = max(48, min(128, _TRANSFORM_FLOATS // (size * size * (c + k)) // 8 * 8))
    block = min(block, -(-tiles // shares))
    vectors = next(v for v in (_NV1, _NV0, _NV2) if k % (v * L) == 0)
    v_size, d_size, du_size = size * size * (block * c + L), size * size * (block * k + L), size * size * c * k
    run = _accumulate.plan(
        shares, threads=shares, m=m, h=h, w=w, c=c, oh=oh, ow=ow, k=k, top=before[0], left=before[1], tiles=tiles,
        tiles_h=tiles_h, tiles_w=tiles_w, shares=shares, block=block, vectors=vectors, v_size=v_size, d_size=d_size,
        du_size=du_size, sums_size=9 * c * k, zeros=zeros(max(c, k, 2 * L)))
    return run, shares, v_size, d_size, du_size


def weight_gradient(dy: np.ndarray, x: np.ndarray, dweight: np.ndarray, *, m: int, before: tuple[int, int]) -> None:
    """dweight of conv2d for channels-last dy, x."""
    run, shares, v_size, d_size, du_size = _plan(x.shape, dy.shape, m, before, get_num_threads())
    sums = workspace("wgrad sums", shares * dweight.size)
    run(x=x, dy=dy, v=workspace("winograd V", shares * v_size), d=workspace("winograd D", shares * d_size),
        du=workspace("winograd dU", shares * du_size), sums=sums, tables=workspace("winograd tables", shares * 128))
    combine(sums, shares, dweight.size, dweight, groups=1, c_pad=x.shape[1], k_pad=dy.shape[1])
