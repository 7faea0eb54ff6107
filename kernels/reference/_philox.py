"""Philox-4x32-10, a random number generator without state: word = f(counter, key).

The counter (four words) goes through ten rounds of multiplications and exclusive ors with the key (two
words), which grows by constants between rounds. Any element's random word can be computed on its own, so
results do not depend on the number of threads, the order of work or the memory layout.

Source: Salmon, Moraes, Dror and Shaw (2011), Parallel random numbers: as easy as 1, 2, 3, SC'11, section 3.3.
"""

from __future__ import annotations

import numpy as np

MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
KEY_STEPS = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
LOW, HIGH = np.uint64(0xFFFFFFFF), np.uint64(32)


def philox(counter: np.ndarray, key: tuple[int, int]) -> np.ndarray:
    """Random words, uint32 (..., 4), for counters (..., 4) of uint32 and one key of two 32-bit ints.

    Words are held in uint64 here, so that a product of two has room.
    """
    c0, c1, c2, c3 = np.moveaxis(counter.astype(np.uint64), -1, 0)
    k0, k1 = np.uint64(key[0]), np.uint64(key[1])
    for _ in range(10):
        product0, product1 = MULTIPLIERS[0] * c0, MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (
            (product1 >> HIGH) ^ c1 ^ k0,
            product1 & LOW,
            (product0 >> HIGH) ^ c3 ^ k1,
            product0 & LOW,
        )
        k0, k1 = (k0 + KEY_STEPS[0]) & LOW, (k1 + KEY_STEPS[1]) & LOW
    return np.stack([c0, c1, c2, c3], axis=-1).astype(np.uint32)


def words(count: int, seed: int, call: int) -> np.ndarray:
    """The random words of elements 0 to count - 1, uint32 (count,).

    Elements come in blocks of 64 that share 16 counters: element i = 64 b + r takes word r div 16 of the
    counter j = 16 b + r mod 16, so that 16 lanes of a vector find their words side by side. The counter's
    words are (low j, high j, low call, high call), the key is (low seed, high seed).
    """
    blocks = -(-count // 64)
    j = np.arange(16 * blocks, dtype=np.uint64)
    counter = np.empty((len(j), 4), np.uint32)
    counter[:, 0], counter[:, 1] = j & LOW, j >> HIGH
    counter[:, 2], counter[:, 3] = halves(call)
    random = philox(counter, halves(seed))
    return random.reshape(blocks, 16, 4).swapaxes(1, 2).reshape(-1)[:count]


def normals(words: np.ndarray) -> np.ndarray:
    """Standard normal numbers, float64 (..., 4), from the four random words (..., 4) of counters.

    Words come in pairs (a, b), which give r cos θ and r sin θ with

        r = √(-2 ln ((⌊a / 2⁸⌋ + 1) / 2²⁴)),    θ = π/2 (⌊b / 2³⁰⌋ + (⌊b / 2⁸⌋ mod 2²²) / 2²² - 1/2)

    The upper 24 bits of a word are a float32 without rounding; so is the rest of the angle inside its quarter.

    Source: Box and Muller (1958), A note on the generation of random normal deviates.
    """
    a, b = words[..., 0::2], words[..., 1::2]
    r = np.sqrt(-2 * np.log(((a >> 8) + 1.0) * 2**-24))
    angle = np.pi / 2 * ((b >> 30) + ((b >> 8) % 2**22) * 2.0**-22 - 0.5)
    return np.stack([r * np.cos(angle), r * np.sin(angle)], axis=-1).reshape(words.shape)


def halves(value: int) -> tuple[int, int]:
    """The low and the high 32 bits of a 64-bit int."""
    return value & 0xFFFFFFFF, value >> 32 & 0xFFFFFFFF
