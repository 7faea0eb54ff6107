"""Philox-4x32-10 on vectors of counters: L draws of four random words at once, with nothing remembered between them.

Source: Salmon, Moraes, Dror and Shaw (2011), Parallel random numbers: as easy as 1, 2, 3, SC'11, section 3.3.
"""


from ._compile import inner
from .simd import isplat, lane_index, vmulhi

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
