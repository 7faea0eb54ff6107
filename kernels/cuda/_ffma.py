"""The inner product of tiles in strict float32, as every GEMM of this folder without tensor cores does it.

A block of 256 threads holds a tile of M × N sums in registers, (M/16) × (N/16) a thread, and takes the reduction DEPTH
steps at a time. Both operands wait in shared memory as DEPTH rows, [depth][M] and [depth][N], twice: while one pair is
multiplied, the next comes in.

    warps of the tile      threads of a warp      sums of a thread (tile of 128 × 128)
        n →                    n →                    n: 4 · x … + 3, and those 64 further
      m 0 1                  m 0 1 … 7                m: 4 · y … + 3, and those 64 further
      ↓ 2 3                  ↓ 8 …
        4 5                    …
        6 7                    24 … 31

In a step a thread reads M/16 + N/16 floats by 128-bit accesses, of which a warp needs one line for each operand, and
does (M/16)(N/16) multiply-adds: 64 for 16 floats with tiles of 128 × 128, which are 88 % of the instructions of the
loop, 77 % with 64 × 64.
"""

from __future__ import annotations

import numpy as np

from ._numba import SIMULATED, cuda, device
from .ptx import load_shared

int32 = np.int32
DEPTH, THREADS = 16, 256
FAR = 64  # how far apart a thread's groups of four are, in a tile larger than that
SKEW = 4  # floats added to rows that are written column by column: neighbours then fall into different banks


@device
def place_x():
    """The thread's column of the 16 × 16."""
    return ((cuda.threadIdx.x >> 5) & 1) * 8 + (cuda.threadIdx.x & 7)


@device
def place_y():
    """The thread's row of the 16 × 16."""
    return (cuda.threadIdx.x >> 6) * 4 + ((cuda.threadIdx.x >> 3) & 3)


if SIMULATED:

    def outer(sums: np.ndarray, a: np.ndarray, b: np.ndarray) -> None:
        """sums += a bᵀ."""
        sums += np.multiply.outer(a, b)

else:

    @device
    def outer(sums, a, b):
        """sums += a bᵀ."""
        for i in range(a.shape[0]):
            for j in range(b.shape[0]):
                sums[i, j] += a[i] * b[j]


@device
def _multiply_row(sums, a, b, a_tile, a_at, b_tile, b_at):
    """sums += the product of one row of each tile, where the thread's sums have their factors from a_at and b_at on."""
    for i in range(0, a.shape[0], 4):
        load_shared(a, i, a_tile, a_at + i * (FAR // 4))
    for j in range(0, b.shape[0], 4):
        load_shared(b, j, b_tile, b_at + j * (FAR // 4))
    outer(sums, a, b)


@device
def multiply(sums, a, b, a_tile, a_first, a_pitch, b_tile, b_first, b_pitch):
    """sums += the product of DEPTH rows of each tile, from a_first and b_first on; a and b are registers."""
    a_at, b_at = int32(a_first + 4 * place_y()), int32(b_first + 4 * place_x())
    # Two rows are written out, as compilers unroll no loop of so many multiply-adds. Of 4 × 4 sums they unroll two such
    # pairs. More would cost the large tile registers that it does not have.
    pairs = 8 // a.shape[0]
    for _ in range(int32(DEPTH // (2 * pairs))):
        for _ in range(pairs):
            _multiply_row(sums, a, b, a_tile, a_at, b_tile, b_at)
            _multiply_row(sums, a, b, a_tile, a_at + a_pitch, b_tile, b_at + b_pitch)
            a_at, b_at = int32(a_at + 2 * a_pitch), int32(b_at + 2 * b_pitch)
