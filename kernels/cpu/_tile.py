"""Register tiles: the FMA loops of the convolutions and of the matrix products, built with the LLVM IR builder.

A tile keeps MR x NV vectors of sums in registers over its whole reduction: every step loads NV vectors and broadcasts
MR scalars for MR * NV FMAs. MR and NV are Python literals where the tile is used, so each pair becomes one straight
inner loop that LLVM neither spills nor reorders; `TILES` lists the pairs that fit the registers of this vector width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ._ir import (
    F32,
    I32,
    I64,
    L,
    at,
    constant,
    first_lanes,
    fma,
    i64,
    load,
    masked_load,
    masked_store,
    raised,
    splat,
    store,
)

# (MR, NV) by lanes: wide for many output channels, in threes where their vectors come in threes, one vector for few.
# MR * NV sums, NV loaded vectors and one broadcast must fit 32 registers (AVX-512) or 16 (AVX2, SSE).
WIDE, THREES, NARROW = {16: ((12, 2), (8, 3), (16, 1)), 8: ((6, 2), (4, 3), (12, 1)), 4: ((6, 2), (4, 3), (12, 1))}[L]


def tile_for(channels: int) -> tuple[int, int]:
    """The (MR, NV) that suits this many output channels."""
    vectors = -(-channels // L)
    return NARROW if vectors == 1 else THREES if vectors % 3 == 0 else WIDE


def for_range(b: ir.IRBuilder, count: ir.Value, carried: Sequence[ir.Value], body: Callable) -> list[ir.Value]:
    """Emit `for i in range(count): carried = body(i, carried)` with the carried values in registers; returns them."""
    before, head, inside, after = b.block, *(b.append_basic_block(n) for n in ("head", "body", "after"))
    b.branch(head)
    b.position_at_end(head)
    start = [i64(0), *carried]
    phis = [b.phi(v.type) for v in start]
    for phi, value in zip(phis, start):
        phi.add_incoming(value, before)
    b.cbranch(b.icmp_signed("<", phis[0], count), inside, after)
    b.position_at_end(inside)
    for phi, value in zip(phis, [b.add(phis[0], i64(1)), *body(phis[0], phis[1:])]):
        phi.add_incoming(value, b.block)
    b.branch(head)
    b.position_at_end(after)
    return phis[1:]


def _table(b: ir.IRBuilder, address: ir.Value, index: ir.Value) -> ir.Value:
    """Entry of an int32 table as int64."""
    return b.sext(load(b, at(b, address, index, I32), I32), I64)


def _literals(*numbers: types.Type) -> bool:
    return all(isinstance(n, types.IntegerLiteral) for n in numbers)


_A = types.int64


@intrinsic(prefer_literal=True)
def dot_tile(typing_context, mr, nv, x, offsets, pitch, zeros, taps, run, w, bias, y, places, lanes, floor):
    """y[m][:] = bias + sum over tap < taps, q < run of x[tap][m][q] * w[tap][q][:] for m < MR.

    x[tap][m] starts offsets[tap * pitch + m] floats behind x, or is the row `zeros` (run floats) where that is
    negative. w is [taps][run][NV * L]. Row m goes to y + places[m], its first `lanes` floats (at most NV * L), raised
    to `floor` where they are below it. `floor` may be None.
    """
    if not _literals(mr, nv):
        return None
    MR, NV = mr.literal_value, nv.literal_value

    def lower(context, b, sig, values):
        x, offsets, pitch, zeros, taps, run, w, bias, y, places, lanes, floor = values[2:]

        def tap(t, carried):
            rows = []
            for m in range(MR):
                offset = _table(b, offsets, b.add(b.mul(t, pitch), i64(m)))
                inside = b.icmp_signed(">=", offset, i64(0))
                row = b.select(inside, b.add(x, b.shl(offset, i64(2))), zeros)
                rows.append(b.inttoptr(row, F32.as_pointer()))

            def channel(q, carried):
                line, *sums = carried
                vectors = [load(b, at(b, line, i64(v * L))) for v in range(NV)]
                scalars = [splat(b, load(b, at(b, row, q), F32)) for row in rows]
                sums = [fma(b, scalars[m], vectors[v], sums[m * NV + v]) for m in range(MR) for v in range(NV)]
                return [b.add(line, i64(4 * NV * L)), *sums]
            # The weights' address is counted up, not computed: the loop has no register to spare for it.
            return for_range(b, run, carried, channel)

        start = [load(b, at(b, bias, i64(v * L))) for v in range(NV)] * MR
        _, *sums = for_range(b, taps, [w, *start], tap)
        if sig.args[-1] != types.none:
            sums = raised(b, sums, floor)
        targets = [at(b, at(b, y, _table(b, places, i64(m))), i64(v * L)) for m in range(MR) for v in range(NV)]
        with b.if_else(b.icmp_signed(">=", lanes, i64(NV * L))) as (whole, part):
            with whole:
                for value, target in zip(sums, targets):
                    store(b, value, target)
            with part:
                masks = [first_lanes(b, b.sub(lanes, i64(v * L))) for v in range(NV)]
                for i, (value, target) in enumerate(zip(sums, targets)):
                    masked_store(b, value, target, masks[i % NV])
        return context.get_dummy_value()

    return types.void(mr, nv, *[_A] * 11, floor), lower


@intrinsic(prefer_literal=True)
def outer_tile(typing_context, mr, nv, blocks, rows, columns, x, x_block, x_row, x_column, d, d_block, d_row, d_column,
               d_vector, sums, pitch):
    """sums[m][v] += sum over pixels of x[pixel][m] * d[pixel][v] for m < MR, v < NV vectors.

    The pixels are a box of blocks x rows x columns; x_block, x_row, x_column and d_block, d_row, d_column are the steps
    in floats. Vector v of d lies d_vector floats further on; sums[m][v] is at sums + m * pitch + v * L.

    The box is summed from zero before it is added: rounding errors grow with its pixels and with the number of boxes,
    not with all pixels.
    """
    if not _literals(mr, nv):
        return None
    MR, NV = mr.literal_value, nv.literal_value

    def lower(context, b, sig, values):
        (blocks, rows, columns, x, x_block, x_row, x_column, d, d_block, d_row, d_column, d_vector, sums,
         pitch) = values[2:]
        places = [at(b, at(b, sums, b.mul(pitch, i64(m))), i64(v * L)) for m in range(MR) for v in range(NV)]

        def block(n, held):
            def row(r, held):
                xs = at(b, x, b.add(b.mul(n, x_block), b.mul(r, x_row)))
                ds = at(b, d, b.add(b.mul(n, d_block), b.mul(r, d_row)))

                def pixel(j, held):
                    px, pd = at(b, xs, b.mul(j, x_column)), at(b, ds, b.mul(j, d_column))
                    vectors = [load(b, at(b, pd, b.mul(d_vector, i64(v)))) for v in range(NV)]
                    scalars = [splat(b, load(b, at(b, px, i64(m)), F32)) for m in range(MR)]
                    return [fma(b, scalars[m], vectors[v], held[m * NV + v]) for m in range(MR) for v in range(NV)]
                return for_range(b, columns, held, pixel)
            return for_range(b, rows, held, row)

        for place, value in zip(places, for_range(b, blocks, [constant(0)] * len(places), block)):
            store(b, b.fadd(load(b, place), value), place)
        return context.get_dummy_value()

    return types.void(mr, nv, *[_A] * 14), lower


@intrinsic(prefer_literal=True)
def lane_tile(typing_context, mr, rows, columns, x, x_row, x_column, x_pixel, w, w_row, w_column, bias, y, y_pixel,
              lanes, floor):
    """y[m][:] = bias[:] + sum over r < rows, s < columns of x[m, r, s][:] * w[r, s][:] for m < MR: lanes are channels.

    What is below `floor` is raised to it. Steps are in floats. Of x and y the first `lanes` floats of every vector are
    touched.
    """
    if not _literals(mr):
        return None
    MR = mr.literal_value

    def lower(context, b, sig, values):
        rows, columns, x, x_row, x_column, x_pixel, w, w_row, w_column, bias, y, y_pixel, lanes, floor = values[1:]

        def emit(read, write):
            def row(r, sums):
                xs, ws = at(b, x, b.mul(r, x_row)), at(b, w, b.mul(r, w_row))

                def column(s, sums):
                    weight, p, out = load(b, at(b, ws, b.mul(s, w_column))), at(b, xs, b.mul(s, x_column)), []
                    for total in sums:
                        out.append(fma(b, read(p), weight, total))
                        p = at(b, p, x_pixel)
                    return out
                return for_range(b, columns, sums, column)

            p = at(b, y, i64(0))
            for total in raised(b, for_range(b, rows, [load(b, at(b, bias, i64(0)))] * MR, row), floor):
                write(total, p)
                p = at(b, p, y_pixel)
        _whole_or_part(b, lanes, emit)
        return context.get_dummy_value()

    return types.void(mr, *[_A] * 13, types.float32), lower


@intrinsic(prefer_literal=True)
def lane_sums(typing_context, taps, pixels, x, x_tap, x_pixel, d, d_pixel, sums, lanes):
    """sums[tap][:] += sum over pixels of x[pixel + tap][:] * d[pixel][:] for a literal number of taps in a row.

    Steps are in floats; sums lie L floats apart. Of x and d the first `lanes` floats of every vector are read.
    """
    if not _literals(taps):
        return None
    TAPS = taps.literal_value

    def lower(context, b, sig, values):
        pixels, x, x_tap, x_pixel, d, d_pixel, sums, lanes = values[1:]
        places = [at(b, sums, i64(t * L)) for t in range(TAPS)]

        def emit(read, write):
            def pixel(j, held):
                p, value, out = at(b, x, b.mul(j, x_pixel)), read(at(b, d, b.mul(j, d_pixel))), []
                for total in held:
                    out.append(fma(b, read(p), value, total))
                    p = at(b, p, x_tap)
                return out
            for place, value in zip(places, for_range(b, pixels, [load(b, p) for p in places], pixel)):
                store(b, value, place)
        _whole_or_part(b, lanes, emit)
        return context.get_dummy_value()

    return types.void(taps, *[_A] * 8), lower


def _whole_or_part(b: ir.IRBuilder, lanes: ir.Value, emit: Callable) -> None:
    """emit(read, write) twice: for whole vectors, and for vectors of which only the first lanes may be touched."""
    with b.if_else(b.icmp_signed(">=", lanes, i64(L))) as (whole, part):
        with whole:
            emit(lambda p: load(b, p), lambda value, p: store(b, value, p))
        with part:
            mask = first_lanes(b, lanes)
            emit(lambda p: masked_load(b, p, mask), lambda value, p: masked_store(b, value, p, mask))
