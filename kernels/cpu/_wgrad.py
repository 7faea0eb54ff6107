"""The weight gradient on the register tile: for every tap, dW[c][k] = sum over pixels of x[pixel + tap][c] dy[pixel][k]

The output pixels that a tap can use form a rectangle, so no index table is needed: each tile of MR input channels by
NV * L output channels walks a box of images x rows x columns with its sums in registers.

A job is a share of the images by a block of output channels. It takes a chunk of some 256 pixels at a time and first
copies it into panels that stay in L1 and L2, dy as [vector of k][pixel][L] and x as [block of c][pixel][MR]; every tap
and every pair of blocks then reads them from there. Each share of the images has its own sums; the last step adds the
shares in their order, turns them to (K, C, R, S) and stores.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numba import njit

from ._direct import padded_copy
from ._driver import INT, PTR, get_num_threads, job, share
from ._geometry import tap_ranges
from ._memory import workspace
from ._tile import outer_tile
from .simd import L, fload, fstore, iload, vload, vload_n, vsplat, vstore, vtranspose

# (MR, NV) by lanes, as in `_tile.TILES`; MR = 8 wastes nothing where channels come in multiples of 8.
# NINES is for patches of 3 x 3 filters, 9 or 27 floats.
_WIDE, _THREES, _NARROW, _NINES = {
    16: ((8, 2), (8, 3), (16, 1), (9, 2)), 8: ((4, 2), (4, 3), (8, 1), (3, 2)), 4: ((4, 2), (4, 3), (8, 1), (3, 2))}[L]
_KINDS = {_WIDE: 0, _THREES: 1, _NARROW: 2, _NINES: 3}
(_MR0, _NV0), (_MR1, _NV1), (_MR2, _NV2), (_MR3, _NV3) = _WIDE, _THREES, _NARROW, _NINES

_CHUNK_PIXELS = 256  # an L-float panel of dy and an MR-float panel of x for so many pixels share a 32 KB L1
_CHUNK_FLOATS = 130_000  # all panels of a chunk together: half a megabyte, in L2
_SUMS_PER_SHARE = 300_000  # more sums than this are not kept once per thread: the output channels are split instead


@njit
def _pack_dy(a, n0, images, row0, rows, first, width, target):
    """[vector][image][row][column][L] of dy's channels first..first + width of one group, zeros past its last."""
    for k in range(0, width, L):
        panel = target + 4 * (k // L) * a.d_panel
        for n in range(images):
            source = a.dy + 4 * (((n0 + n) * a.oh + row0) * a.ow * a.dy_pixel + first // a.k_pad * a.k_group)
            channel = first % a.k_pad + k
            for p in range(rows * a.ow):
                vstore(panel, p * L, vload_n(source, p * a.dy_pixel + channel, a.k_group - channel))
            panel += 4 * rows * a.ow * L


@njit
def _pack_x(a, n0, images, row0, rows, group, target):
    """[block of MR][image][row][column][MR] of x's channels of one group, zeros past its last."""
    for c in range(0, a.c_group, a.mr):
        panel = target + 4 * (c // a.mr) * a.x_panel
        for n in range(images):
            for h in range(row0, row0 + rows):
                source = a.x + 4 * ((n0 + n) * a.x_image + h * a.x_row + group * a.c_group + c)
                for p in range(a.w):
                    for i in range(0, a.mr, L):
                        # The lanes above MR are overwritten by the next pixel; the panels end in as much slack.
                        vstore(panel, p * a.mr + i, vload_n(source, p * a.x_column + i, a.c_group - c - i))
                panel += 4 * a.w * a.mr


@njit
def _pack_patches(a, n0, images, row0, rows, target):
    """[image][row][column][c_pad]: for each output pixel the input floats under the filter, its rows one run each."""
    for n in range(images):
        for h in range(row0, row0 + rows):
            source = a.x + 4 * ((n0 + n) * a.x_image + h * a.x_row)
            for p in range(a.w):
                for r in range(a.patch_rows):
                    for i in range(0, a.patch_run, L):
                        # What is stored past a run is overwritten by the next, or falls on lanes nobody combines.
                        vstore(target, r * a.patch_run + i, vload(source, p * a.x_column + r * a.patch_row + i))
                target += 4 * a.c_pad


@job(kind=INT, mr=INT, x=PTR, x_image=INT, x_row=INT, x_column=INT, h=INT, w=INT, patch_rows=INT, patch_row=INT,
     patch_run=INT, dy=PTR, dy_pixel=INT, oh=INT, ow=INT, n=INT, shares=INT,
     stride_h=INT, stride_w=INT, r=INT, s=INT, tap_rows=PTR, tap_columns=PTR, c_group=INT, c_pad=INT, k_group=INT,
     k_pad=INT, blocks=INT, width=INT, images=INT, band=INT, x_panels=PTR, x_panel=INT, x_panels_size=INT,
     d_panels=PTR, d_panel=INT, d_panels_size=INT, sums=PTR, sums_size=INT, vectors=INT)
def _accumulate(first, last, thread, a):
    """A job is one share of the images by one block of `width` output channels of a group."""
    zero = vsplat(np.float32(0))
    xs = a.x_panels + 4 * thread * a.x_panels_size
    ds = a.d_panels + 4 * thread * a.d_panels_size
    for j in range(first, last):
        part = j // a.blocks
        block = j % a.blocks * a.width
        group = block // a.k_pad
        # sums: [share][group][tap][c_pad][k_pad]
        sums = a.sums + 4 * (part * a.sums_size + group * a.r * a.s * a.c_pad * a.k_pad + block % a.k_pad)
        for row in range(a.r * a.s * a.c_pad):
            for k in range(0, a.width, L):
                vstore(sums, row * a.k_pad + k, zero)
        end = (part + 1) * a.n // a.shares
        for n0 in range(part * a.n // a.shares, end, a.images):
            images = min(a.images, end - n0)
            for row0 in range(0, a.oh, a.band):
                row1 = min(a.oh, row0 + a.band)
                # The rows of x that this band meets, whichever tap looks.
                x0 = max(0, row0 * a.stride_h + iload(a.tap_rows, 0))
                x1 = max(x0, min(a.h, (row1 - 1) * a.stride_h + iload(a.tap_rows, 3 * (a.r - 1)) + 1))
                rows = x1 - x0
                _pack_dy(a, n0, images, row0, row1 - row0, block, a.width, ds)
                if a.patch_rows:
                    _pack_patches(a, n0, images, x0, rows, xs)
                    x_step, block_step = a.c_pad, a.mr
                else:
                    _pack_x(a, n0, images, x0, rows, group, xs)
                    x_step, block_step = a.mr, a.x_panel
                x_line = a.w * x_step
                x_block = rows * x_line
                for r in range(a.r):
                    oh0 = max(row0, iload(a.tap_rows, 3 * r + 1))
                    oh1 = min(row1, iload(a.tap_rows, 3 * r + 2))
                    for s in range(a.s):
                        ow0 = iload(a.tap_columns, 3 * s + 1)
                        columns = iload(a.tap_columns, 3 * s + 2) - ow0
                        if oh0 >= oh1 or columns <= 0:
                            continue
                        xp = xs + 4 * ((oh0 * a.stride_h + iload(a.tap_rows, 3 * r) - x0) * x_line
                                      + (ow0 * a.stride_w + iload(a.tap_columns, 3 * s)) * x_step)
                        dp = ds + 4 * ((oh0 - row0) * a.ow + ow0) * L
                        tap = sums + 4 * (r * a.s + s) * a.c_pad * a.k_pad
                        for k in range(0, a.width, a.vectors * L):
                            d = dp + 4 * (k // L) * a.d_panel
                            for c in range(0, a.c_pad, a.mr):
                                xc = xp + 4 * (c // a.mr * block_step)
                                target = tap + 4 * (c * a.k_pad + k)
                                if a.kind == 0:
                                    outer_tile(_MR0, _NV0, images, oh1 - oh0, columns, xc, x_block,
                                               a.stride_h * x_line, a.stride_w * x_step, d, (row1 - row0) * a.ow * L,
                                               a.ow * L, L, a.d_panel, target, a.k_pad)
                                elif a.kind == 1:
                                    outer_tile(_MR1, _NV1, images, oh1 - oh0, columns, xc, x_block,
                                               a.stride_h * x_line, a.stride_w * x_step, d, (row1 - row0) * a.ow * L,
                                               a.ow * L, L, a.d_panel, target, a.k_pad)
                                elif a.kind == 2:
                                    outer_tile(_MR2, _NV2, images, oh1 - oh0, columns, xc, x_block,
                                               a.stride_h * x_line, a.stride_w * x_step, d, (row1 - row0) * a.ow * L,
                                               a.ow * L, L, a.d_panel, target, a.k_pad)
                                else:
                                    outer_tile(_MR3, _NV3, images, oh1 - oh0, columns, xc, x_block,
                                               a.stride_h * x_line, a.stride_w * x_step, d, (row1 - row0) * a.ow * L,
                                               a.ow * L, L, a.d_panel, target, a.k_pad)


@job(sums=PTR, shares=INT, sums_size=INT, rows=PTR, count=INT, group_rows=INT, k_group=INT, k_pad=INT, vectors=INT,
     dweight=PTR, scratch=PTR)
def _combine(first, last, thread, a):
    """A job is L output channels: dweight[k][i] = sum over shares of sums[rows[i]][k], shares in their order."""
    turned = a.scratch + 4 * L * L * thread
    for j in range(first, last):
        group = j // a.vectors
        k = j % a.vectors * L
        source = a.sums + 4 * (group * a.group_rows * a.k_pad + k)
        target = a.dweight + 4 * (group * a.k_group + k) * a.count
        for i0 in range(0, a.count, L):
            n = min(L, a.count - i0)
            for i in range(n):
                at = iload(a.rows, i0 + i) * a.k_pad
                total = vload(source, at)
                for part in range(1, a.shares):
                    total = total + vload(source, at + part * a.sums_size)
                vstore(turned, i * L, total)
            if n == L and k + L <= a.k_group:
                vtranspose(turned, L, target + 4 * i0, a.count)
            else:
                for lane in range(min(L, a.k_group - k)):
                    for i in range(n):
                        fstore(target, lane * a.count + i0 + i, fload(turned, i * L + lane))


@functools.lru_cache(512)
def _rows(channels: int, taps: int, pad: int) -> np.ndarray:
    """Row [tap][pad] of the sums for each weight (channel, tap) in memory order."""
    channel = np.arange(channels)[:, None]
    return np.ascontiguousarray((np.arange(taps) * pad + channel).ravel(), np.int32)


@functools.lru_cache(512)
def _patch_rows(channels: int, height: int, width: int) -> np.ndarray:
    """Row (r, s, channel) of the sums for each weight (channel, r, s) in memory order."""
    c, r, s = np.ogrid[:channels, :height, :width]
    return np.ascontiguousarray(((r * width + s) * channels + c).ravel(), np.int32)


class Plan(NamedTuple):
    """The call that fills the sums, what `combine` has to know of them, and the floats of the panels."""

    call: Callable[..., None]
    groups: int
    shares: int
    sums_size: int
    c_pad: int
    k_pad: int
    x_panels: int
    d_panels: int


def weight_gradient(dy: np.ndarray, x: np.ndarray, dweight: np.ndarray, *, stride: tuple[int, int],
                    before: tuple[int, int], dilation: tuple[int, int], groups: int) -> None:
    """dweight of conv2d for channels-last dy, x."""
    if dweight.shape[2:] == (1, 1):  # only the pixels that a 1x1 filter meets: a view at stride 1
        x = x[:, :, -before[0] % stride[0] :: stride[0], -before[1] % stride[1] :: stride[1]]
        before, stride = tuple(-(-b // step) for b, step in zip(before, stride)), (1, 1)
    plan = _window_plan(
        dy.shape, x.shape, x.strides, dweight.shape, stride, before, dilation, groups, get_num_threads())
    _run(plan, dy, x, dweight)


@functools.lru_cache(512)
def _window_plan(dy_shape: tuple[int, ...], x_shape: tuple[int, ...], x_strides: tuple[int, ...],
                 shape: tuple[int, ...], stride: tuple[int, int], before: tuple[int, int], dilation: tuple[int, int],
                 groups: int, threads: int) -> Plan:
    _, _, h, w = x_shape
    _, c_group, r, s = shape
    _, _, oh, ow = dy_shape
    rows = tap_ranges(h, oh, r, stride[0], dilation[0], before[0])
    columns = tap_ranges(w, ow, s, stride[1], dilation[1], before[1])
    image, _, row, column = (pitch // 4 for pitch in x_strides)
    return _plan(dy_shape, stride, rows, columns, c_group, groups, threads, x_image=image, x_row=row, x_column=column,
                 h=h, w=w, patch_rows=0, patch_row=0, patch_run=0)


def weight_gradient_few(dy: np.ndarray, x: np.ndarray, dweight: np.ndarray, *, stride: tuple[int, int],
                        before: tuple[int, int]) -> None:
    """The same for a handful of input channels, no groups, no dilation, x of any strides.

    The floats under the filter, R * S * C of them, take the place of the channels of a 1x1 filter.
    """
    plan, size = _patch_plan(dy.shape, dweight.shape, stride, get_num_threads())
    _run(plan, dy, padded_copy(x, size, before), dweight, patches=True)


@functools.lru_cache(512)
def _patch_plan(dy_shape: tuple[int, ...], shape: tuple[int, ...], stride: tuple[int, int],
                threads: int) -> tuple[Plan, tuple[int, int]]:
    """The plan, and the size of the padded images that it reads."""
    _, c, r, s = shape
    _, _, oh, ow = dy_shape
    size = ((oh - 1) * stride[0] + r, (ow - 1) * stride[1] + s)
    row = size[1] * c
    plan = _plan(dy_shape, (1, 1), tap_ranges(oh, oh, 1, 1, 1, 0), tap_ranges(ow, ow, 1, 1, 1, 0), r * s * c, 1,
                 threads, x_image=size[0] * row, x_row=stride[0] * row, x_column=stride[1] * c, h=oh, w=ow,
                 patch_rows=r, patch_row=row, patch_run=s * c)
    return plan, size


def _tile(channels: int, filters: int, patches: bool) -> tuple[int, int]:
    vectors = -(-filters // L)
    if vectors == 1:
        return _NARROW
    if vectors % 3 == 0:
        return _THREES
    return min((_WIDE, _NINES) if patches else (_WIDE,), key=lambda tile: -(-channels // tile[0]) * tile[0])


def _split(k_pad: int, lanes: int, groups: int, threads: int, rows: int) -> int:
    """Output channels of a job when the channels are split: as many as keep its sums in cache, for x is packed anew in
    every job, but so few that all threads get the same number of jobs.
    """
    units = k_pad // lanes
    parts = [p for p in range(1, units + 1) if units % p == 0 and groups * p % threads == 0]
    fitting = [p for p in parts if rows * k_pad // p <= _SUMS_PER_SHARE]
    return k_pad // (fitting[0] if fitting else parts[-1] if parts else units)


def _plan(dy_shape: tuple[int, ...], stride: tuple[int, int], rows: np.ndarray, columns: np.ndarray, channels: int,
          groups: int, threads: int, *, h: int, w: int, patch_rows: int, **x: int) -> Plan:
    """The sums from images of h x w pixels, of which each tap uses `channels` floats a group."""
    n, k, oh, ow = dy_shape
    r, s = len(rows), len(columns)
    k_group = k // groups
    tile = _tile(channels, k_group, bool(patch_rows))
    mr, lanes = tile[0], tile[1] * L
    c_pad, k_pad = -(-channels // mr) * mr, -(-k_group // lanes) * lanes
    sums_size = groups * r * s * c_pad * k_pad
    split_channels = sums_size > _SUMS_PER_SHARE and groups * k_pad // lanes >= threads
    shares = 1 if split_channels else min(threads, n)
    width = _split(k_pad, lanes, groups, threads, r * s * c_pad) if split_channels else k_pad
    blocks = groups * k_pad // width
    # A chunk: some rows of one image, or several small images.
    pixels = max(64, min(_CHUNK_PIXELS, _CHUNK_FLOATS // (c_pad + width)))
    images, band = (min(n, pixels // (oh * ow)), oh) if oh * ow <= pixels // 2 else (1, max(1, min(oh, pixels // ow)))
    x_rows = min(h, (band - 1) * stride[0] + int(rows[-1, 0] - rows[0, 0]) + 1)
    x_panel, d_panel = images * x_rows * w * mr, images * band * ow * L
    x_panels, d_panels = c_pad // mr * x_panel + L, width // L * d_panel
    workers = min(threads, shares * blocks)
    call = _accumulate.plan(
        shares * blocks, threads=workers, kind=_KINDS[tile], mr=mr, h=h, w=w, dy_pixel=k, oh=oh, ow=ow, n=n,
        shares=shares, stride_h=stride[0], stride_w=stride[1], r=r, s=s, tap_rows=rows, tap_columns=columns,
        c_group=channels, c_pad=c_pad, k_group=k_group, k_pad=k_pad, blocks=blocks, width=width, images=images,
        band=band, x_panel=x_panel, x_panels_size=x_panels, d_panel=d_panel, d_panels_size=d_panels,
        sums_size=sums_size, vectors=tile[1], patch_rows=patch_rows, **x)
    return Plan(call, groups, shares, sums_size, c_pad, k_pad, workers * x_panels, workers * d_panels)


def _run(plan: Plan, dy: np.ndarray, x: np.ndarray, dweight: np.ndarray, patches: bool = False) -> None:
    sums = workspace("wgrad sums", plan.shares * plan.sums_size)
    plan.call(dy=dy, x=x, x_panels=workspace("wgrad x", plan.x_panels), d_panels=workspace("wgrad dy", plan.d_panels),
              sums=sums)
    combine(sums, plan.shares, plan.sums_size, dweight, groups=plan.groups, c_pad=plan.c_pad, k_pad=plan.k_pad,
            patches=patches)


def combine(sums: np.ndarray, shares: int, sums_size: int, dweight: np.ndarray, *, groups: int, c_pad: int, k_pad: int,
            patches: bool = False) -> None:
    """dweight = sum over shares of sums [share][group][tap][c_pad][k_pad]; patches: [share][(tap, channel)][k_pad]."""
    threads = share(dweight.size * shares)
    call = _combination(dweight.shape, shares, sums_size, groups, c_pad, k_pad, patches, threads)
    call(sums=sums, dweight=dweight, scratch=workspace("turn", threads * L * L))


@functools.lru_cache(512)
def _combination(shape: tuple[int, ...], shares: int, sums_size: int, groups: int, c_pad: int, k_pad: int,
                 patches: bool, threads: int) -> Callable[..., None]:
    k, c, r, s = shape
    vectors = -(-(k // groups) // L)
    return _combine.plan(
        groups * vectors, threads=threads, shares=shares, sums_size=sums_size,
        rows=_patch_rows(c, r, s) if patches else _rows(c, r * s, c_pad), count=c * r * s, group_rows=r * s * c_pad,
        k_group=k // groups, k_pad=k_pad, vectors=vectors)
