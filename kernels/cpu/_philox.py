"""Philox-4x32-10 on vectors of counters: L draws of four random words at once, with nothing remembered between them.

Source: Salmon, Moraes, Dror and Shaw (2011), Parallel random numbers: as easy as 1, 2, 3, SC'11, section 3.3.
"""

import numpy as np

from ._compile import inner
from ._math import vlog
from .simd import isplat, lane_index, vbits, vfma, vfrombits, vfromint, vmulhi, vselect, vsplat, vsqrt

_MULTIPLIER_0, _MULTIPLIER_1 = 0xD2511F53, 0xCD9E8D57
_KEY_STEP_0, _KEY_STEP_1 = 0x9E3779B9, 0xBB67AE85
COUNTERS = 16  # elements come in blocks of 4 * COUNTERS; word w of counter i belongs to element w * COUNTERS + i


@inner
def philox(first, call_low, call_high, seed_low, seed_high):
    """The four words of each counter (j, call), j = first to first + L - 1; first is a multiple of L.

    All arguments are int64; j has 64 bits, the halves of call and of the key, seed, have 32.
    """
    m0, m1 = isplat(_MULTIPLIER_0), isplat(_MULTIPLIER_1)
    w0, w1, w2, w3 = isplat(first) + lane_index(), isplat(first >> 32), isplat(call_low), isplat(call_high)
    for _ in range(10):
        w0, w1, w2, w3 = (
            vmulhi(m1, w2) ^ w1 ^ isplat(seed_low),
            m1 * w2,
            vmulhi(m0, w0) ^ w3 ^ isplat(seed_high),
            m0 * w0,
        )
        seed_low, seed_high = seed_low + _KEY_STEP_0, seed_high + _KEY_STEP_1
    return w0, w1, w2, w3


@inner
def _pair(a, b):
    """Two vectors of standard normal numbers from two of random words: r cos t and r sin t, t in quarters of a turn."""
    r = vsqrt(-2.0 * vlog(vfromint((a >> 8) + 1) * np.float32(2**-24)))
    quarter = b >> 30
    t = (vfromint((b >> 8) & 0x3FFFFF) * np.float32(2**-22) - 0.5) * np.float32(np.pi / 2)
    z = t * t
    # Taylor's series: up to pi / 4 the next terms are less than 2e-9.
    sine = vsplat(1 / 362880)
    for term in (-1 / 5040, 1 / 120, -1 / 6, 1.0):
        sine = vfma(sine, z, vsplat(term))
    cosine = vsplat(-1 / 3628800)
    for term in (1 / 40320, -1 / 720, 1 / 24, -1 / 2, 1.0):
        cosine = vfma(cosine, z, vsplat(term))
    sine = t * sine
    odd = (quarter & 1) == 1
    x, y = vselect(odd, sine, cosine), vselect(odd, cosine, sine)
    x = vfrombits(vbits(x) ^ (((quarter + 1) & 2) << 30))
    y = vfrombits(vbits(y) ^ ((quarter & 2) << 30))
    return r * x, r * y


@inner
def normals(words):
    """Four vectors of standard normal numbers from the four of random words that `philox` gives."""
    x0, x1 = _pair(words[0], words[1])
    x2, x3 = _pair(words[2], words[3])
    return x0, x1, x2, x3
