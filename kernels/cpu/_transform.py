"""The small matrices of Winograd's convolution, and an intrinsic that applies them from both sides.

F(m x m, 3 x 3) computes m x m outputs of a 3 x 3 filter from an (m + 2) x (m + 2) patch with (m + 2)**2 products, not
9 m**2: 2.25 times fewer for m = 2, 4 times fewer for m = 4.

    y  = A^T [ (G w G^T) * (B^T x B) ] A                  forward; * is elementwise
    dw = G^T [ (B^T x B) * (A dy A^T) ] G                 its adjoint with respect to w

m = 2 uses the points 0, 1, -1, infinity and is as exact as the direct sum; m = 4 uses 0, 1, -1, 2, -2, infinity, and
its larger coefficients cost about one decimal digit of float32.

Winograd (1980); Lavin and Gray (2016), arXiv:1509.09308.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ._ir import I64, at, constant, fma, i64, load, raised, store

BT, AT, G, GT, A = range(5)

_BT4 = [[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0], [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1]]
_G4 = [[1 / 4, 0, 0], [-1 / 6, -1 / 6, -1 / 6], [-1 / 6, 1 / 6, -1 / 6], [1 / 24, 1 / 12, 1 / 6],
       [1 / 24, -1 / 12, 1 / 6], [0, 0, 1]]
_AT4 = [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]
_BT2 = [[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]]
_G2 = [[1, 0, 0], [1 / 2, 1 / 2, 1 / 2], [1 / 2, -1 / 2, 1 / 2], [0, 0, 1]]
_AT2 = [[1, 1, 1, 0], [0, 1, -1, -1]]


def matrix(m: int, which: int) -> np.ndarray:
    """The matrix `which` (BT, AT, G, or the transposes GT, A) of F(m x m, 3 x 3), m = 2 or 4."""
    bt, g, at_ = (_BT4, _G4, _AT4) if m == 4 else (_BT2, _G2, _AT2)
    return np.array({BT: bt, AT: at_, G: g, GT: np.transpose(g), A: np.transpose(at_)}[which], float)


def _combination(b: ir.IRBuilder, row: np.ndarray, d: list[ir.Value]) -> ir.Value:
    """sum of row[j] * d[j], one instruction a term."""
    terms = sorted(((c, v) for c, v in zip(row, d) if c), key=lambda term: (abs(term[0]) != 1, term[0] < 0))
    total = None
    for c, v in terms:
        if total is None:
            total = v if c == 1 else b.fmul(constant(c), v)
        elif abs(c) == 1:
            total = b.fadd(total, v) if c == 1 else b.fsub(total, v)
        else:
            total = fma(b, constant(c), v, total)
    return total


def _mirrored(p: np.ndarray, q: np.ndarray) -> bool:
    """Whether p and q agree in size entry by entry, some with equal and some with opposite signs."""
    return np.array_equal(abs(p), abs(q)) and (p * q > 0).any() and (p * q < 0).any()


def _product(b: ir.IRBuilder, mat: np.ndarray, d: list[ir.Value]) -> list[ir.Value]:
    """mat @ d; neighbouring columns and rows that mirror each other (the points a and -a) share their sums."""
    mat, d = mat.copy(), list(d)
    for j in range(mat.shape[1] - 1):
        p, q = mat[:, j].copy(), mat[:, j + 1].copy()
        if _mirrored(p, q) and np.count_nonzero(p) > 2:
            d[j], d[j + 1] = b.fadd(d[j], d[j + 1]), b.fsub(d[j], d[j + 1])
            mat[:, j], mat[:, j + 1] = np.where(p * q > 0, p, 0), np.where(p * q < 0, p, 0)
    out = [None] * len(mat)
    for i, row in enumerate(mat):
        if out[i] is not None:
            continue
        if i + 1 < len(mat) and _mirrored(row, mat[i + 1]):
            same = _combination(b, np.where(row == mat[i + 1], row, 0), d)
            opposite = _combination(b, np.where(row != mat[i + 1], row, 0), d)
            out[i], out[i + 1] = b.fadd(same, opposite), b.fsub(same, opposite)
        else:
            out[i] = _combination(b, row, d)
    return out


@intrinsic(prefer_literal=True)
def sandwich(typing_context, m, which, gather, source, row, column, target, target_row, target_column, floor):
    """target[i, j] = (M d M^T)[i, j] for M = matrix(m, which), each entry a vector of L channels.

    d[p, q] lies p * row + q * column floats behind `source`; with gather = 1, `source` is instead an int64 table of
    addresses [p][q] to which `row` floats are added. Offsets and pitches count floats. What is below `floor` is raised
    to it; `floor` may be None.
    """
    if not all(isinstance(n, types.IntegerLiteral) for n in (m, which, gather)):
        return None
    mat, from_table = matrix(m.literal_value, which.literal_value), gather.literal_value

    def lower(context, b, sig, values):
        source, row, column, target, target_row, target_column, floor = values[3:]
        rows, columns = mat.shape

        def entry(p, q):
            if from_table:
                address = load(b, at(b, source, i64(p * columns + q), I64), I64)
                return load(b, at(b, address, row))
            return load(b, at(b, source, b.add(b.mul(row, i64(p)), b.mul(column, i64(q)))))
        half = [_product(b, mat, [entry(p, q) for p in range(columns)]) for q in range(columns)]
        for i in range(rows):
            entries = _product(b, mat, [half[q][i] for q in range(columns)])
            for j, value in enumerate(entries if sig.args[-1] == types.none else raised(b, entries, floor)):
                store(b, value, at(b, target, b.add(b.mul(target_row, i64(i)), b.mul(target_column, i64(j)))))
        return context.get_dummy_value()

    a = types.int64
    return types.void(m, which, gather, a, a, a, a, a, a, floor), lower
