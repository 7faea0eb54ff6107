"""Sliding windows: the loops of 3 x 3 depthwise convolutions, built with the LLVM IR builder. Lanes run over channels.

Going along a row of the output, the window of the input under the filter stays in registers: of its three columns only
those are loaded that the last position had not, and the nine taps never leave their registers either. Two rows of the
output at a time share the rows of the input between them. So an output vector costs nine FMAs, which is what it must,
and 2 to 5 loads, where a loop over taps costs nine. What lies in the padding is read from a vector of zeros: an address
is chosen, nothing is branched over, and the border is no slower than the rest.

One vector of channels after the other goes over some rows, so memory is read in steps of a pixel, which the hardware
does not foresee: each position asks for its counterpart in the next rows.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ._ir import F32, L, V, at, fma, i64, load, prefetch, raised, store
from ._tile import _literals, _whole_or_part, for_range

SIZE = 3  # rows and columns of the filter

_A = types.int64


class _Window:
    """Reads columns of `rows` neighbouring rows of an image, zeros outside it."""

    def __init__(self, b, rows, x, first_row, height, width, pixel, zeros, read):
        self.b, self.width, self.pixel, self.zeros, self.read = b, width, pixel, zeros, read
        self.lines = []
        for t in range(rows):
            row = b.add(first_row, i64(t))
            inside = b.icmp_unsigned("<", row, height)
            line = b.add(x, b.shl(b.mul(b.mul(row, width), pixel), i64(2)))
            self.lines.append((inside, line))

    def column(self, q: ir.Value) -> list[ir.Value]:
        """Column q of the image in these rows."""
        b = self.b
        inside = b.icmp_unsigned("<", q, self.width)
        place = b.shl(b.mul(q, self.pixel), i64(2))
        addresses = [b.select(b.and_(inside, row_inside), b.add(line, place), self.zeros)
                     for row_inside, line in self.lines]
        return [self.read(b.inttoptr(address, F32.as_pointer())) for address in addresses]


def _slide(b, window, size, stride, left, count, carried, body):
    """for j in range(count): carried = body(j, the `size` columns of the window, carried); returns carried."""
    kept = max(0, size - stride)
    rows = len(window.lines)
    start = [value for s in range(kept) for value in window.column(b.sub(i64(s), left))]

    def step(j, held):
        columns = [held[s * rows:(s + 1) * rows] for s in range(kept)]
        first = b.sub(b.mul(j, i64(stride)), left)
        columns += [window.column(b.add(first, i64(s))) for s in range(kept, size)]
        out = body(j, columns, held[kept * rows:])
        return [value for column in columns[stride:] for value in column] + out

    return for_range(b, count, [*start, *carried], step)[kept * rows:]


def _foresee(b, x, row, j, width, pixel, rows, stride):
    """Ask for the pixels of x that become new at position j, `rows` rows from `row` on."""
    for i in range(rows):
        for s in range(stride):
            column = b.add(b.mul(j, i64(stride)), i64(s))
            prefetch(b, at(b, x, b.mul(b.add(b.mul(b.add(row, i64(i)), width), column), pixel)))


@intrinsic(prefer_literal=True)
def window_tile(typing_context, stride, tall, x, first_row, left, height, width, pixel, zeros, w, bias, y, times, count,
                lanes, floor):
    """y[i][j][:] = bias[:] + sum over r, s < 3 of x[i * stride + r][j * stride + s][:] * w[r][s][:].

    For j < count and i < times * tall: `tall` rows at a time (a literal, like the stride of 1 or 2). What is below
    `floor` is raised to it. x is the image, of height x width pixels of `pixel` floats; window (0, 0) begins at its
    pixel (first_row, -left). y has no gaps. Of x and y the first `lanes` floats of every vector are touched; `zeros` is
    a vector of zeros.
    """
    if not _literals(stride, tall):
        return None
    STRIDE, TALL = stride.literal_value, tall.literal_value

    def lower(context, b, sig, values):
        x, first_row, left, height, width, pixel, zeros, w, bias, y, times, count, lanes, floor = values[2:]
        taps = [[load(b, at(b, w, i64((r * SIZE + s) * L))) for s in range(SIZE)] for r in range(SIZE)]
        start = load(b, at(b, bias, i64(0)))
        y_row = b.mul(count, pixel)
        ahead = b.mul(times, i64(TALL))

        def emit(read, write):
            def rows(t, _):
                row = b.add(first_row, b.mul(t, i64(TALL * STRIDE)))
                window = _Window(b, SIZE + (TALL - 1) * STRIDE, x, row, height, width, pixel, zeros, read)
                line = at(b, y, b.mul(b.mul(t, i64(TALL)), y_row))
                next_row = b.add(b.add(row, b.mul(ahead, i64(STRIDE))), i64(1))
                next_y = at(b, line, b.mul(ahead, y_row))

                def pixel_sums(j, columns, carried):
                    totals = [start] * TALL
                    for s in range(SIZE):
                        for r in range(SIZE):
                            totals = [fma(b, columns[s][i * STRIDE + r], taps[r][s], total)
                                      for i, total in enumerate(totals)]
                    for i, total in enumerate(raised(b, totals, floor)):
                        place = b.add(b.mul(y_row, i64(i)), b.mul(j, pixel))
                        write(total, at(b, line, place))
                        prefetch(b, at(b, next_y, place), write=True)
                    _foresee(b, x, next_row, j, width, pixel, TALL * STRIDE, STRIDE)
                    return []

                _slide(b, window, SIZE, STRIDE, left, count, [], pixel_sums)
                return []
            for_range(b, times, [], rows)
        _whole_or_part(b, lanes, emit)
        return context.get_dummy_value()

    return types.void(stride, tall, *[_A] * 13, types.float32), lower


@intrinsic(prefer_literal=True)
def window_sums(typing_context, stride, x, first_row, left, height, width, pixel, zeros, d, rows, count, sums, lanes):
    """sums[r][s][:] += sum over i < rows, j < count of x[i * stride + r][j * stride + s][:] * d[i][j][:].

    x as for `window_tile`; d is rows x count pixels of `pixel` floats, without gaps.
    """
    if not _literals(stride):
        return None
    STRIDE = stride.literal_value

    def lower(context, b, sig, values):
        x, first_row, left, height, width, pixel, zeros, d, rows, count, sums, lanes = values[1:]
        places = [at(b, sums, i64(t * L)) for t in range(SIZE * SIZE)]

        def emit(read, write):
            def row(i, held):
                window = _Window(b, SIZE, x, b.add(first_row, b.mul(i, i64(STRIDE))), height, width, pixel, zeros, read)
                line = b.mul(i, count)
                next_row = b.add(b.add(first_row, b.mul(b.add(i, rows), i64(STRIDE))), i64(1))

                def pixel_products(j, columns, held):
                    value = read(at(b, d, b.mul(b.add(line, j), pixel)))
                    prefetch(b, at(b, d, b.mul(b.add(b.add(line, b.mul(rows, count)), j), pixel)))
                    _foresee(b, x, next_row, j, width, pixel, STRIDE, STRIDE)
                    return [fma(b, columns[t % SIZE][t // SIZE], value, total) for t, total in enumerate(held)]

                return _slide(b, window, SIZE, STRIDE, left, count, held, pixel_products)

            zero = ir.Constant(V, None)
            for place, total in zip(places, for_range(b, rows, [zero] * len(places), row)):
                store(b, b.fadd(load(b, place), total), place)
        _whole_or_part(b, lanes, emit)
        return context.get_dummy_value()

    return types.void(stride, *[_A] * 12), lower


@intrinsic(prefer_literal=True)
def window_spread(typing_context, d, first_row, first_column, height, width, pixel, zeros, w, x, top, left, x_height,
                  x_width, spare, times, count, lanes):
    """x[2 i + r - top][2 j + s - left][:] = sum of d[i][j][:] * w[r][s][:]: the gradient to the input at stride 2.

    With i = m - 1 and m, j = q - 1 and q, the rows 2 m - top and 2 m + 1 - top of x are complete, and so are the
    columns: goes over m from first_row, `times` of them, and q from first_column, `count` of them. d has height x
    width, x has x_height x x_width pixels of `pixel` floats; what would lie outside x goes to the vector `spare`.
    """

    def lower(context, b, sig, values):
        (d, first_row, first_column, height, width, pixel, zeros, w, x, top, left, x_height, x_width, spare, times,
         count, lanes) = values
        taps = [[load(b, at(b, w, i64((r * SIZE + s) * L))) for s in range(SIZE)] for r in range(SIZE)]
        next_x = b.mul(b.mul(b.mul(times, i64(2)), x_width), pixel)

        def emit(read, write):
            def rows(t, _):
                m = b.add(first_row, t)
                window = _Window(b, 2, d, b.sub(m, i64(1)), height, width, pixel, zeros, read)
                lines = []
                for i in range(2):
                    row = b.sub(b.add(b.add(m, m), i64(i)), top)
                    inside = b.icmp_unsigned("<", row, x_height)
                    lines.append((inside, b.add(x, b.shl(b.mul(b.mul(row, x_width), pixel), i64(2)))))

                def pixel_sums(j, columns, carried):
                    q = b.add(first_column, j)
                    for s in range(2):
                        column = b.sub(b.add(b.add(q, q), i64(s)), left)
                        column_inside = b.icmp_unsigned("<", column, x_width)
                        place = b.shl(b.mul(column, pixel), i64(2))
                        for r, (row_inside, line) in enumerate(lines):
                            # An even position hears of two neighbours in d, through the taps 0 and 2.
                            heard = [(columns[1 - v][1 - u], taps[r + 2 * u][s + 2 * v])
                                     for v in range(2 - s) for u in range(2 - r)]
                            total = b.fmul(*heard[0])
                            for value, tap in heard[1:]:
                                total = fma(b, value, tap, total)
                            inside = b.and_(row_inside, column_inside)
                            target = b.add(line, place)
                            write(total, b.inttoptr(b.select(inside, target, spare), F32.as_pointer()))
                            prefetch(b, at(b, target, next_x), write=True)
                    _foresee(b, d, b.add(m, times), q, width, pixel, 1, 1)
                    return []

                _slide(b, window, 2, 1, b.sub(i64(1), first_column), count, [], pixel_sums)
                return []
            for_range(b, times, [], rows)
        _whole_or_part(b, lanes, emit)
        return context.get_dummy_value()

    return types.void(*[_A] * 17), lower
