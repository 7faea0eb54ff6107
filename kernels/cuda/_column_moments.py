"""Count, mean and squared deviations of a tile's columns, by threads that hold rows of a few columns.

A thread that writes a tile of y takes its values v of a column one after the other, rounded as memory holds them. With
the first as the origin o no digits of a large mean get lost, and as a deviation of 0 is among them, q is never a small
difference of large numbers:

    s = Σ (v - o)     d = s / n     q = Σ (v - o)² - s d          → a set (n, mean o + d, q) for each column

Threads of different rows, LOTS of them, leave the sets of a column in shared memory; n is the same for all columns:

    o: LOTS rows of N | d: LOTS rows of N | q: LOTS rows of N | n: LOTS               4 (3 N + 1) LOTS bytes

Of these a thread makes the column's set for the whole tile, again by differences alone:

    n = Σ n_i     e_i = (o_i - o₀) + d_i     e = Σ n_i e_i / n     q = Σ (q_i + n_i (e_i - e)²)

and n, the mean o₀ + e, and q go to entry [row of tiles, channel]. The order is fixed. A value costs three operations,
and a tile of M × N leaves 12 N bytes in memory, where a pass over its y would read 2 M N or 4 M N.

Source: Chan, Golub and LeVeque (1983), Algorithms for computing the sample variance, The American Statistician 37.
"""

from __future__ import annotations

import numpy as np

from ._math import ONE, ZERO, fma, larger
from ._numba import device
from .ptx import reciprocal, store_shared
from .ptx_mma import load_word

int32 = np.int32


@device
def deviate(s, t, origin, values, number):
    """Take four values from their place `number` in registers on: s and t are sums of deviations and of squares."""
    for i in range(4):
        by = values[number + i] - origin[number + i]
        s[number + i] += by
        t[number + i] = fma(by, by, t[number + i])


@device
def leave(shared, first, lots, width, lot, column, origin, s, t, number, n):
    """The sets of four columns, from `column` on, of n values each; s and t are lost."""
    share = reciprocal(larger(np.float32(n), ONE))
    for i in range(4):
        d = s[number + i] * share
        t[number + i] = fma(-s[number + i], d, t[number + i])
        s[number + i] = d
    at = first + lot * width + column
    store_shared(shared, at, origin, number)
    store_shared(shared, at + lots * width, s, number)
    store_shared(shared, at + 2 * lots * width, t, number)
    if column == 0:
        shared[first + 3 * lots * width + lot] = np.float32(n)


@device
def join(shared, first, lots, width, column, counts, means, squares, at):
    """The set of a column, to place `at` of memory."""
    o, held = int32(first + column), int32(first + 3 * lots * width)
    origin, n, s, q = load_word(shared, o, 0), ZERO, ZERO, ZERO
    for lot in range(lots):
        e = load_word(shared, o, lot * width) - origin + load_word(shared, o, (lots + lot) * width)
        n += load_word(shared, held, lot)
        s = fma(load_word(shared, held, lot), e, s)
    mean = s * reciprocal(n)
    for lot in range(lots):
        by = load_word(shared, o, lot * width) - origin + load_word(shared, o, (lots + lot) * width) - mean
        q += fma(load_word(shared, held, lot) * by, by, load_word(shared, o, (2 * lots + lot) * width))
    counts[at], means[at], squares[at] = n, origin + mean, q
