"""Philox-4x32-10, random words from a counter and a key, with nothing remembered between them.

Element i of an array (its position in channels-last order) is element r = i mod 64 of block b = i div 64 and takes word
r div 16 of the counter j = 16 b + r mod 16; `kernels/reference/_philox.py` says the same in NumPy.

Source: Salmon, Moraes, Dror and Shaw (2011), Parallel random numbers: as easy as 1, 2, 3, SC'11, section 3.3.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ._layout import Array
from ._math import HALF, ONE, fma, log, sqrt
from ._memory import xp
from ._numba import device
from .ptx import multiply_wide

_MULTIPLIER_0, _MULTIPLIER_1 = np.uint32(0xD2511F53), np.uint32(0xCD9E8D57)
_KEY_STEP_0, _KEY_STEP_1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_LOW, _HIGH = np.uint64(0xFFFFFFFF), np.uint64(32)
_TO_UNIT, _TO_QUARTER, _QUARTER = np.float32(2**-24), np.float32(2**-22), np.float32(np.pi / 2)
_S3, _S5, _S7, _S9 = (np.float32(c) for c in (-1 / 6, 1 / 120, -1 / 5040, 1 / 362880))
_C4, _C6, _C8, _C10 = (np.float32(c) for c in (1 / 24, -1 / 720, 1 / 40320, -1 / 3628800))
_MINUS_TWO, _FRACTION = np.float32(-2), np.uint32(0x3FFFFF)


@device
def philox(counter, call, seed):
    """The four words (uint32) of a counter; all arguments are uint64."""
    w0, w1 = np.uint32(counter & _LOW), np.uint32(counter >> _HIGH)
    w2, w3 = np.uint32(call & _LOW), np.uint32(call >> _HIGH)
    k0, k1 = seed & _LOW, seed >> _HIGH
    for _ in range(10):
        (high_0, low_0), (high_1, low_1) = multiply_wide(_MULTIPLIER_0, w0), multiply_wide(_MULTIPLIER_1, w2)
        w0, w1, w2, w3 = np.uint32(high_1 ^ w1 ^ np.uint32(k0)), low_1, np.uint32(high_0 ^ w3 ^ np.uint32(k1)), low_0
        k0, k1 = (k0 + _KEY_STEP_0) & _LOW, (k1 + _KEY_STEP_1) & _LOW
    return w0, w1, w2, w3


@device
def normal_pair(a, b):
    """Two standard normal numbers from two random words (Box and Muller 1958): r cos θ and r sin θ."""
    r = sqrt(_MINUS_TWO * log(np.float32((a >> np.uint32(8)) + np.uint32(1)) * _TO_UNIT))
    quarter, fraction = b >> np.uint32(30), (b >> np.uint32(8)) & _FRACTION
    angle = (np.float32(fraction) * _TO_QUARTER - HALF) * _QUARTER
    z = angle * angle
    # Taylor's series: up to π / 4 the next terms are less than 2e-9.
    sine = angle * fma(fma(fma(fma(_S9, z, _S7), z, _S5), z, _S3), z, ONE)
    cosine = fma(fma(fma(fma(fma(_C10, z, _C8), z, _C6), z, _C4), z, -HALF), z, ONE)
    if quarter == 0:
        return r * cosine, r * sine
    if quarter == 1:
        return -r * sine, r * cosine
    if quarter == 2:
        return -r * cosine, -r * sine
    return r * sine, -r * cosine


@device
def number(value, array, on_device):
    """The uint64 that a kernel got as `counter` hands it over."""
    return np.uint64(array[0] if on_device else value)


def counter(value: int | Array) -> tuple[int, Array | None, bool]:
    """A 64-bit number as arguments LONG, I64 and INT of a kernel; it may be a 0-d array, which lies on the device.

    A CUDA graph reads such an array again at each replay: a step's number of draws counts on there.
    """
    if isinstance(value, xp().ndarray):
        return 0, value.view(np.int64), True
    return signed(value), None, False


def signed(value: Any) -> int:
    """The low 64 bits of an int as a kernel's LONG takes them."""
    return (int(value) + 2**63) % 2**64 - 2**63
