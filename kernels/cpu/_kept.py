"""Packed weights that outlive a call: in inference a layer's weights are the same at every call.

An entry is found by where the weights lie, and holds only while their checksum does, and the factors that were
multiplied into them: writing into either in place makes it stale, never wrong. The checksum reads the weights once, a
tenth of the work of packing them. Entries go with their weights. No lock is taken, for that may happen inside any other
call: single dict operations are atomic.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable
from typing import NamedTuple

import numpy as np

from ._compile import inner
from ._driver import INT, PTR, address, job
from .simd import L, iload_n, isplat, istore_n

_CAP = 1 << 27  # floats kept: half a gigabyte
_P1, _P2 = -1640531535, -2048144777  # the primes of xxHash32, as signed numbers

_entries: dict[Hashable, tuple[bytes, np.ndarray, weakref.ref]] = {}


@inner
def _mix(h, x):
    h = h + x * _P2
    return ((h << 13) | (h >> 19)) * _P1


@job(x=PTR, n=INT, sums=PTR)
def _checksum(first, last, thread, a):
    """Four times L hashes: h = rotate(h + x * p, 13) * q for odd p, q, so any change of one float changes its hash."""
    h0 = h1 = h2 = h3 = isplat(_P1)
    for i in range(0, a.n, 4 * L):
        h0 = _mix(h0, iload_n(a.x, i, a.n - i))
        h1 = _mix(h1, iload_n(a.x, i + L, a.n - i - L))
        h2 = _mix(h2, iload_n(a.x, i + 2 * L, a.n - i - 2 * L))
        h3 = _mix(h3, iload_n(a.x, i + 3 * L, a.n - i - 3 * L))
    istore_n(a.sums, 0, h0, L)
    istore_n(a.sums, L, h1, L)
    istore_n(a.sums, 2 * L, h2, L)
    istore_n(a.sums, 3 * L, h3, L)


class Filters(NamedTuple):
    """A convolution's weights (C-contiguous), a factor for each filter or None, and whether packed forms are kept."""

    weight: np.ndarray
    scale: np.ndarray | None
    keep: bool

    @property
    def shape(self) -> tuple[int, ...]:
        return self.weight.shape

    def scaled(self) -> np.ndarray:
        """The weights times their factors."""
        return self.weight if self.scale is None else self.weight * self.scale[:, None, None, None]

    def packed(self, kind: Hashable, build: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """build(scaled weights)."""
        if not self.keep:
            return build(self.scaled())
        return kept(self.weight, self.scale, kind, lambda: build(self.scaled()))


def kept(weight: np.ndarray, scale: np.ndarray | None, kind: Hashable, build: Callable[[], np.ndarray]) -> np.ndarray:
    """build(), or what it returned for these very weights (C-contiguous) and factors the last time."""
    sums = np.empty(4 * L, np.int32)
    _checksum(1, x=weight, n=weight.size, sums=sums)
    factors = b"" if scale is None else scale.tobytes()
    checksum, key = sums.tobytes() + factors, (address(weight), weight.shape, kind)
    held = _entries.pop(key, None)
    if held is not None and held[0] == checksum:
        _entries[key] = held  # the last to be dropped now
        return held[1]
    panels = build()
    _entries[key] = checksum, panels, weakref.ref(weight, lambda _: _entries.pop(key, None))
    while sum(entry[1].size for entry in list(_entries.values())) > _CAP and len(_entries) > 1:
        _entries.pop(next(iter(_entries)), None)
    return panels


def forget() -> None:
    """Drop all packed weights."""
    _entries.clear()
