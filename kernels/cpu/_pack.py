"""Weights in the order in which a tile reads them: panels [block of lanes][tap][reduced channel][lane].

A panel's lanes are output channels in the forward direction and input channels in the gradient to the input. Lanes past
the last channel hold zeros. Each L x L block of weights is turned in registers.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from ._driver import INT, PTR, get_num_threads, job, share
from ._memory import empty, workspace
from .simd import L, fload, fstore, iload, vload, vload_n, vstore, vtranspose


@job(w=PTR, group_floats=INT, lanes=INT, lane_pitch=INT, outer=INT, outer_pitch=INT, inner=INT, rows=PTR,
     outer_rows=INT, panel_rows=INT, width=INT, out=PTR, per_group=INT, scratch=PTR)
def _pack_lanes(first, last, thread, a):
    """A job is L lanes: out[row][lane] = w[lane * lane_pitch + o * outer_pitch + i], row = rows[i] + o * outer_rows."""
    turned = a.scratch + 4 * L * L * thread
    for j in range(first, last):
        k = j % a.per_group * L
        source = a.w + 4 * (j // a.per_group * a.group_floats + k * a.lane_pitch)
        block = j // a.per_group * (a.per_group * L // a.width) + k // a.width
        target = a.out + 4 * (block * a.panel_rows * a.width + k % a.width)
        if a.lane_pitch == 1:  # lanes lie side by side: the gradient of a 1x1 filter
            for o in range(a.outer):
                vstore(target, o * a.outer_rows * a.width, vload_n(source, o * a.outer_pitch, a.lanes - k))
            continue
        for o in range(a.outer):
            for i0 in range(0, a.inner, L):
                n = min(L, a.inner - i0)
                start = o * a.outer_pitch + i0
                # A whole block may read past the end of its rows, but never past the last weight of the group.
                whole = (L - 1) * a.lane_pitch + L <= (a.lanes - k) * a.lane_pitch - i0 or o + 1 < a.outer
                if k + L <= a.lanes and (n == L or whole):
                    vtranspose(source + 4 * start, a.lane_pitch, turned, L)
                else:
                    for lane in range(L):
                        for i in range(n):
                            inside = k + lane < a.lanes
                            fstore(turned, i * L + lane,
                                   fload(source, lane * a.lane_pitch + start + i) if inside else np.float32(0))
                for i in range(n):
                    row = iload(a.rows, i0 + i)
                    if row >= 0:
                        vstore(target, (row + o * a.outer_rows) * a.width, vload(turned, i * L))


@functools.lru_cache(256)
def _forward_rows(channels: int, taps: int) -> np.ndarray:
    """Panel row [tap][channel] of weight (channel, tap) in memory order."""
    tap, channel = np.arange(taps), np.arange(channels)[:, None]
    return np.ascontiguousarray((tap * channels + channel).ravel(), np.int32)


@functools.lru_cache(256)
def _merged_rows(channels: int, height: int, width: int) -> np.ndarray:
    """Panel row [r][s * channels + channel] of weight (channel, r, s): a filter row is one run over its pixels."""
    c, r, s = np.ogrid[:channels, :height, :width]
    return np.ascontiguousarray(((r * width + s) * channels + c).ravel(), np.int32)


@functools.lru_cache(256)
def _backward_rows(channels: int, taps: int, used: tuple[int, ...]) -> np.ndarray:
    """First panel row of each used tap, -1 for the others."""
    rows = np.full(taps, -1, np.int32)
    rows[list(used)] = np.arange(len(used)) * channels
    return rows


def pack_forward(weight: np.ndarray, groups: int, width: int, merged: bool = False, keep: bool = False) -> np.ndarray:
    """(K, C/groups, R, S) to panels [group][block of `width` output channels][tap][input channel][width].

    They lie in a workspace, until the next weights are packed, or with `keep` in an array of their own.
    """
    return _run(weight, _forward_plan(weight.shape, groups, width, merged, get_num_threads()), keep)


def pack_backward(weight: np.ndarray, groups: int, width: int, used: tuple[int, ...]) -> np.ndarray:
    """(K, C/groups, R, S) to panels [group][block of `width` input channels][used tap][output channel][width].

    They lie in a workspace, until the next weights are packed.
    """
    return _run(weight, _backward_plan(weight.shape, groups, width, used, get_num_threads()), keep=False)


Plan = tuple[Callable[..., None], int, int]  # a call, the floats of the panels, those of its workspace


@functools.lru_cache(512)
def _forward_plan(shape: tuple[int, ...], groups: int, width: int, merged: bool, threads: int) -> Plan:
    k, c, r, s = shape
    size = c * r * s
    return _plan(k // groups, groups, width, threads, rows=_merged_rows(c, r, s) if merged else _forward_rows(c, r * s),
                 group_floats=k // groups * size, lane_pitch=size, outer=1, outer_pitch=0, inner=size, outer_rows=0,
                 panel_rows=size)


@functools.lru_cache(512)
def _backward_plan(shape: tuple[int, ...], groups: int, width: int, used: tuple[int, ...], threads: int) -> Plan:
    k, c, r, s = shape
    per_group = k // groups
    return _plan(c, groups, width, threads, rows=_backward_rows(per_group, r * s, used),
                 group_floats=per_group * c * r * s, lane_pitch=r * s, outer=per_group, outer_pitch=c * r * s,
                 inner=r * s, outer_rows=1, panel_rows=len(used) * per_group)


def _plan(lanes: int, groups: int, width: int, threads: int, **layout: int | np.ndarray) -> Plan:
    per_group = -(-lanes // width) * width // L
    floats = groups * per_group * L * layout["panel_rows"]
    threads = min(threads, share(floats))
    run = _pack_lanes.plan(groups * per_group, threads=threads, lanes=lanes, width=width, per_group=per_group, **layout)
    return run, floats, threads * L * L


def _run(weight: np.ndarray, plan: Plan, keep: bool) -> np.ndarray:
    run, floats, scratch = plan
    out = empty((floats,)) if keep else workspace("panels", floats)
    run(w=weight, out=out, scratch=workspace("turn", scratch))
    return out
