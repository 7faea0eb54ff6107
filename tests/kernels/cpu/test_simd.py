"""Vectors, their operators, and memory access that stays within its lanes."""

import operator
import platform

import numpy as np
import pytest
from numba import config, njit, types
from numba.core.errors import TypingError

from nnk.kernels.cpu._ir import lanes_of
from nnk.kernels.cpu.simd import (
    MASK,
    L,
    bload_n,
    bstore_n,
    dload,
    dstore,
    fload,
    fstore,
    iload,
    iload_n,
    isplat,
    istore_n,
    lane_index,
    lload,
    lstore,
    mload,
    mstore,
    vabs,
    vany,
    vbelow,
    vbits,
    vclip,
    vconst_n,
    vcopysign,
    vfirst,
    vfma,
    vfrombits,
    vfromint,
    visnan,
    vlargest,
    vload,
    vload_n,
    vmax,
    vmin,
    vmulhi,
    vselect,
    vsplat,
    vsqrt,
    vstore,
    vstore_n,
    vstream,
    vstreamed,
    vsum,
    vtranspose,
)

SPECIAL = np.float32([0, -0.0, 1, -1, 1.5, -2.75, 3e38, -3e38, 1e-40, -1e-45, np.inf, -np.inf, np.nan])
INTEGERS = np.int32([0, 1, -1, 2, -7, 31, 0x7FFFFFFF, -0x80000000, 0x12345678, -0x12345678, 65535, 65536])
COUNTS = sorted({-3, 0, 1, 2, L - 1, L, L + 5})


def pairs(values):
    """Every pair of values, as two arrays of a whole number of vectors."""
    x, y = np.repeat(values, len(values)), np.tile(values, len(values))
    return np.resize(x, -(-x.size // L) * L), np.resize(y, -(-x.size // L) * L)


def address(x):
    return x.ctypes.data


def mapped(function, *arrays):
    """function(a pointer to each array and to the result, offset) at every vector; the result has floats' size."""
    result = np.full(arrays[0].size, np.float32(7), np.float32)
    for i in range(0, result.size, L):
        function(*map(address, arrays), address(result), i)
    return result


def agree(got, want):
    """Bit for bit; any NaN is like another."""
    want = np.asarray(want, got.dtype)
    if got.dtype.kind == "f":
        blank = np.isnan(want)
        assert np.array_equal(np.isnan(got), blank)
        got, want = np.where(blank, 0, got), np.where(blank, 0, want)
    assert np.array_equal(got.view(np.int32), want.view(np.int32))


# ---------------------------------------------------------------- operators
FLOAT_OPERATORS = (operator.add, operator.sub, operator.mul, operator.truediv)
INT_OPERATORS = (operator.add, operator.sub, operator.mul, operator.and_, operator.or_, operator.xor)
COMPARISONS = (operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne)


@pytest.mark.parametrize("op", FLOAT_OPERATORS, ids=lambda op: op.__name__)
def test_float_operators(op):
    @njit
    def kernel(x, y, out, i):
        vstore(out, i, op(vload(x, i), vload(y, i)))

    x, y = pairs(SPECIAL)
    with np.errstate(all="ignore"):
        agree(mapped(kernel, x, y), op(x, y))


@pytest.mark.parametrize("op", COMPARISONS, ids=lambda op: op.__name__)
def test_float_comparisons(op):
    @njit
    def kernel(x, y, out, i):
        vstore(out, i, vselect(op(vload(x, i), vload(y, i)), 1.0, 0.0))

    x, y = pairs(SPECIAL)
    agree(mapped(kernel, x, y), op(x, y))


@pytest.mark.parametrize("op", INT_OPERATORS, ids=lambda op: op.__name__)
def test_int_operators(op):
    @njit
    def kernel(x, y, out, i):
        istore_n(out, i, op(iload_n(x, i, L), iload_n(y, i, L)), L)

    x, y = pairs(INTEGERS)
    agree(mapped(kernel, x, y).view(np.int32), op(x, y))


@pytest.mark.parametrize("op", COMPARISONS, ids=lambda op: op.__name__)
def test_int_comparisons_are_signed(op):
    @njit
    def kernel(x, y, out, i):
        vstore(out, i, vselect(op(iload_n(x, i, L), iload_n(y, i, L)), 1.0, 0.0))

    x, y = pairs(INTEGERS)
    agree(mapped(kernel, x, y), op(x, y))


def test_shifts_are_logical():
    @njit
    def left(x, y, out, i):
        istore_n(out, i, iload_n(x, i, L) << iload_n(y, i, L), L)

    @njit
    def right(x, y, out, i):
        istore_n(out, i, iload_n(x, i, L) >> iload_n(y, i, L), L)

    @njit
    def by_a_number(x, out, i):
        istore_n(out, i, (iload_n(x, i, L) >> 3) << 1, L)

    x = np.repeat(INTEGERS, 32)
    x, y = np.resize(x, -(-x.size // L) * L), np.resize(np.arange(32, dtype=np.int32), -(-x.size // L) * L)
    bits = x.view(np.uint32)
    agree(mapped(left, x, y).view(np.uint32), bits << y.view(np.uint32))
    agree(mapped(right, x, y).view(np.uint32), bits >> y.view(np.uint32))
    agree(mapped(by_a_number, x).view(np.uint32), bits >> 3 << 1)


def test_unary_operators_and_masks():
    @njit
    def kernel(x, y, out, i):
        a, b = vload(x, i), vload(y, i)
        below, positive = a < b, a > 0
        number = vselect(below & positive, 1.0, 0.0) + vselect(below | positive, 2.0, 0.0)
        number = number + vselect(below ^ positive, 4.0, 0.0) + vselect(~below, 8.0, 0.0)
        vstore(out, i, number)

    @njit
    def negative(x, out, i):
        vstore(out, i, -vload(x, i))

    @njit
    def inverse(x, out, i):
        istore_n(out, i, ~iload_n(x, i, L), L)

    x, y = pairs(SPECIAL)
    below, positive = x < y, x > 0
    agree(mapped(kernel, x, y), (below & positive) + 2 * (below | positive) + 4 * (below ^ positive) + 8 * ~below)
    agree(mapped(negative, x), -x)
    agree(mapped(inverse, np.resize(INTEGERS, 4 * L)).view(np.int32), ~np.resize(INTEGERS, 4 * L))


def test_numbers_are_broadcast_on_either_side():
    @njit
    def floats(x, out, i):
        v = vload(x, i)
        vstore(out, i, 2 - 3.0 * v + (v - 1) / np.float32(4))

    @njit
    def ints(x, out, i):
        v = iload_n(x, i, L)
        istore_n(out, i, (5 - 3 * v) ^ (v + 1), L)

    @njit
    def choices(x, out, i):
        v = vload(x, i)
        bits = vselect(v > 2, 1, vselect(v > 1, lane_index(), 9))
        vstore(out, i, vselect(v > 3, v, vselect(v <= 0, -1, vfromint(bits))))

    x = np.arange(-2, -2 + 4 * L, dtype=np.float32) / 2
    agree(mapped(floats, x), np.float32(2) - np.float32(3) * x + (x - 1) / np.float32(4))
    k = x.astype(np.int32)
    agree(mapped(ints, k).view(np.int32), (5 - 3 * k) ^ (k + 1))
    lanes = np.resize(np.arange(L), x.size)
    agree(mapped(choices, x), np.where(x > 3, x, np.where(x <= 0, -1, np.where(x > 2, 1, np.where(x > 1, lanes, 9)))))


def test_vectors_of_different_kinds_do_not_mix():
    @njit
    def kernel(x):
        return vsum(vload(x, 0) + iload_n(x, 0, L))

    with pytest.raises(TypingError):
        kernel.compile((types.int64,))


# ---------------------------------------------------------------- functions of lanes
def test_largest_and_smallest_keep_nan():
    @njit
    def larger(x, y, out, i):
        vstore(out, i, vmax(vload(x, i), vload(y, i)))

    @njit
    def smaller(x, y, out, i):
        vstore(out, i, vmin(vload(x, i), vload(y, i)))

    x, y = pairs(SPECIAL)
    got = mapped(larger, x, y), mapped(smaller, x, y)
    for result, want in zip(got, (np.maximum(x, y), np.minimum(x, y))):
        assert np.array_equal(result, want, equal_nan=True)  # of zeros either sign


def test_clipped_between_two_bounds():
    @njit
    def clipped(x, out, i):
        vstore(out, i, vclip(vload(x, i), -1.5, 2.0))

    x = np.resize(np.float32([0, -0.0, 1, -1.5, 2, 3, -2, np.inf, -np.inf, np.nan, 1e-45]), 4 * L)
    assert np.array_equal(mapped(clipped, x), np.clip(x, np.float32(-1.5), np.float32(2)), equal_nan=True)


def test_functions_of_one_float():
    @njit
    def root(x, out, i):
        vstore(out, i, vsqrt(vload(x, i)))

    @njit
    def size(x, out, i):
        vstore(out, i, vabs(vload(x, i)))

    @njit
    def blank(x, out, i):
        vstore(out, i, vselect(visnan(vload(x, i)), 1.0, 0.0))

    @njit
    def there_and_back(x, out, i):
        vstore(out, i, vfrombits(vbits(vload(x, i))))

    @njit
    def signed(x, y, out, i):
        vstore(out, i, vcopysign(vload(x, i), vload(y, i)))

    x, y = pairs(SPECIAL)
    with np.errstate(invalid="ignore"):
        agree(mapped(root, x), np.sqrt(x))
    agree(mapped(size, x), np.abs(x))
    agree(mapped(blank, x), np.isnan(x))
    assert np.array_equal(mapped(there_and_back, x).view(np.int32), x.view(np.int32))
    agree(mapped(signed, x, y), np.copysign(x, y))


def test_fma_rounds_once():
    @njit
    def kernel(x, y, z, out, i):
        vstore(out, i, vfma(vload(x, i), vload(y, i), vload(z, i)))

    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 8 * L)).astype(np.float32)
    z = -(x * y)
    exact = x.astype(np.float64) * y + z  # the product's rounding error, which float64 holds exactly
    assert np.count_nonzero(exact)
    agree(mapped(kernel, x, y, z), exact)


def test_integers_to_floats_and_unsigned_arithmetic():
    @njit
    def as_float(x, out, i):
        vstore(out, i, vfromint(iload_n(x, i, L)))

    @njit
    def high(x, y, out, i):
        istore_n(out, i, vmulhi(iload_n(x, i, L), iload_n(y, i, L)), L)

    @njit
    def below(x, y, out, i):
        vstore(out, i, vselect(vbelow(iload_n(x, i, L), iload_n(y, i, L)), 1.0, 0.0))

    x, y = pairs(INTEGERS)
    agree(mapped(as_float, x), x.astype(np.float32))
    wide = x.view(np.uint32).astype(np.uint64), y.view(np.uint32).astype(np.uint64)
    agree(mapped(high, x, y).view(np.uint32), wide[0] * wide[1] >> np.uint64(32))
    agree(mapped(below, x, y), wide[0] < wide[1])


def test_splats():
    @njit
    def floats(x, out, i):
        vstore(out, i, vsplat(fload(x, i)))

    @njit
    def ints(out, n):
        istore_n(out, 0, isplat(n), L)

    x = np.repeat(SPECIAL, L)
    agree(mapped(floats, x), x)
    out = np.zeros(L, np.int32)
    for n in (5, -1, 0xFEDCBA9876543210, 1 << 40):
        ints(address(out), np.int64(np.uint64(n % 2**64)))
        assert set(out.view(np.uint32)) == {n % 2**32}


def test_reductions_are_pairwise():
    @njit
    def kernel(x, out):
        v = vload(x, 0)
        fstore(out, 0, vsum(v))
        fstore(out, 1, vlargest(v))
        fstore(out, 2, vfirst(v))

    rng = np.random.default_rng(1)
    for _ in range(20):
        x, out = rng.standard_normal(L).astype(np.float32), np.empty(3, np.float32)
        kernel(address(x), address(out))
        total = x
        while total.size > 1:
            total = total[: total.size // 2] + total[total.size // 2 :]
        assert np.array_equal(out, np.float32([total[0], x.max(), x[0]]))


def test_any_lane():
    @njit
    def kernel(x):
        return vany(vload(x, 0) > 0)

    x = np.zeros(L, np.float32)
    assert kernel(address(x)) is False
    for lane in range(L):
        x[:] = 0
        x[lane] = 1
        assert kernel(address(x)) is True


@pytest.mark.parametrize("pitches", [(L, L), (L + 3, L + 1), (2 * L, 5 * L)])
def test_transpose(pitches):
    @njit
    def kernel(source, source_pitch, target, target_pitch):
        vtranspose(source, source_pitch, target, target_pitch)

    source = np.arange(L * pitches[0], dtype=np.float32).reshape(L, -1)
    target = np.full((L, pitches[1]), -1, np.float32)
    kernel(address(source), pitches[0], address(target), pitches[1])
    assert np.array_equal(target[:, :L], source[:, :L].T)
    assert (target[:, L:] == -1).all()


# ---------------------------------------------------------------- memory
@pytest.mark.parametrize("offset", range(5))
def test_whole_vectors_at_any_offset_leave_their_neighbours_alone(offset):
    @njit
    def kernel(x, y, i):
        vstore(y, i, vload(x, i))

    x, y = np.arange(3 * L, dtype=np.float32), np.full(3 * L, -1, np.float32)
    kernel(address(x), address(y), offset)
    assert np.array_equal(y[offset : offset + L], x[offset : offset + L])
    assert (np.delete(y, np.s_[offset : offset + L]) == -1).all()


@pytest.mark.parametrize("n", COUNTS)
@pytest.mark.parametrize("kind", ["f4", "i4", "u1"])
def test_partial_vectors_touch_their_lanes_only(kind, n):
    @njit
    def floats(x, whole, part, i, n):
        v = vload_n(x, i, n)
        vstore(whole, 0, v)
        vstore_n(part, i, v, n)

    @njit
    def ints(x, whole, part, i, n):
        v = iload_n(x, i, n)
        vstore(whole, 0, vfromint(v))
        istore_n(part, i, v, n)

    @njit
    def bytes_(x, whole, part, i, n):
        v = bload_n(x, i, n)
        vstore(whole, 0, vfromint(v))
        bstore_n(part, i, v, n)

    rng = np.random.default_rng(2)
    x = rng.integers(128, 256, 3 * L).astype(kind)  # bytes are unsigned
    whole, part = np.empty(L, np.float32), np.full(3 * L, 77, kind)
    {"f4": floats, "i4": ints, "u1": bytes_}[kind](address(x), address(whole), address(part), 3, n)
    lanes = min(max(n, 0), L)
    assert np.array_equal(whole, np.r_[x[3 : 3 + lanes], np.zeros(L - lanes)])
    assert np.array_equal(part[3 : 3 + lanes], x[3 : 3 + lanes])
    assert (np.delete(part, np.s_[3 : 3 + lanes]) == 77).all()


def test_memory_past_the_caches_masks_and_constants():
    @njit
    def kernel(x, y, masks, out):
        for k in range(3):
            vstream(y, k * L, vload(x, k * L))
            mstore(masks, k, vload(x, k * L) > 0)
        vstreamed()
        for k in range(3):
            vstore(out, k * L, vselect(mload(masks, k), vconst_n(x, k * L, L - 1), 9))

    memory = np.full(4 * L + 16, -1, np.float32)
    y = memory[-address(memory) % 64 // 4 :][: 3 * L]  # aligned
    x, masks, out = np.random.default_rng(0).standard_normal(3 * L).astype("f4"), np.full(4 * MASK, 7, "u1"), y.copy()
    kernel(address(x), address(y), address(masks), address(out))
    assert np.array_equal(y, x)
    assert (memory == -1).sum() == L + 16
    assert (masks[-MASK:] == 7).all()
    last = np.arange(3 * L) % L == L - 1
    assert np.array_equal(out, np.where(x > 0, np.where(last, 0, x), 9))


def test_bytes_keep_the_low_bits():
    @njit
    def kernel(x, out):
        bstore_n(out, 0, iload_n(x, 0, L), L)

    x, out = np.resize(INTEGERS, L), np.empty(L, np.uint8)
    kernel(address(x), address(out))
    assert np.array_equal(out, x.astype(np.uint8))


def test_scalars():
    @njit
    def kernel(f, d, i, k):
        fstore(f, 1, fload(f, 0) * np.float32(2))
        dstore(d, 1, dload(d, 0) / 3)
        lstore(k, 1, lload(k, 0) - 1)
        lstore(k, 2, iload(i, 1))

    f, d = np.float32([1.25, 0, 9]), np.float64([1, 0, 9])
    i, k = np.int32([9, -5]), np.int64([1 << 40, 0, 0, 9])
    kernel(*map(address, (f, d, i, k)))
    assert f.tolist() == [1.25, 2.5, 9]
    assert d.tolist() == [1, 1 / 3, 9]
    assert k.tolist() == [1 << 40, (1 << 40) - 1, -5, 9]


# ---------------------------------------------------------------- the width
@pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="needs an x86-64 CPU")
@pytest.mark.parametrize(("name", "features", "lanes"), [
    ("skylake-avx512", None, 16),
    ("znver4", "", 16),
    ("graniterapids", None, 16),
    ("x86-64-v4", None, 16),
    ("haswell", None, 8),
    ("haswell", "", 8),
    ("alderlake", None, 8),
    ("nehalem", None, 4),
    ("sandybridge", None, 4),
    ("x86-64", "", 4),
    ("generic", "", 4),
    ("x86-64", "+sse2,+avx2,+fma", 8),
    ("haswell", "+avx512f", 16),
    (None, "+avx2,+avx512f", 16),
])
def test_lanes_of_named_targets(name, features, lanes):
    assert lanes_of(name, features) == lanes


def test_lanes_of_this_machine():
    assert lanes_of(None, None) in (4, 8, 16)
    assert lanes_of(config.CPU_NAME, config.CPU_FEATURES) == L


@pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="needs an x86-64 CPU")
@pytest.mark.parametrize(("name", "lanes"), [("haswell", "8"), ("nehalem", "4")])
def test_narrower_vectors_can_be_asked_for(name, lanes, python):
    program = "from nnk.kernels.cpu.simd import L; print(L)"
    assert python(program, NUMBA_CPU_NAME=name) == python(program, NUMBA_CPU_NAME=name, NUMBA_CPU_FEATURES="") == lanes
