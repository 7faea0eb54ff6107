"""The machine's instructions, elementary functions, sums of a block and random words: in the simulator, or on a GPU."""

import math
import re
import struct
from pathlib import Path

import numpy as np
import pytest

from nnk.kernels.cuda import _math, _philox, _reduce, ptx
from nnk.kernels.cuda._numba import cuda, types
from nnk.kernels.cuda.launch import F32, FLOAT, I32, INT, LONG, STORAGE, U32, kernel
from nnk.kernels.reference import _philox as reference

HALVES = ("float16", "bfloat16")
EIGHT, WARPS, SIGN = 8, 32, np.uint32(0x80000000)
# Signs, exponents and mantissas: zeros, subnormals, ties to even, the largest, overflow, infinities, NaN.
EXPONENTS = (0, 1, 2, 100, 101, 102, 103, 111, 112, 113, 114, 125, 126, 127, 128, 141, 142, 143, 254, 255)
MANTISSAS = (0, 1, 0x0FFF, 0x1000, 0x1001, 0x2FFF, 0x3000, 0x3001, 0x7FFF, 0x8000, 0x8001, 0x17FFF, 0x18000, 0x18001,
             0x400000, 0x7FDFFF, 0x7FE000, 0x7FEFFF, 0x7FF000, 0x7F7FFF, 0x7F8000, 0x7FFFFF)  # fmt: skip
FLOATS = np.array([sign << 31 | e << 23 | m for sign in (0, 1) for e in EXPONENTS for m in MANTISSAS],
                  np.uint32).view(np.float32)


def dtype_of(name):
    return np.dtype(pytest.importorskip("ml_dtypes").bfloat16 if name == "bfloat16" else name)


def rounded(x, name):
    """The 16 bits of the nearest number, ties to even, by another way than NumPy's and the machine's."""
    word = int(np.float32(x).view(np.uint32))
    if name == "bfloat16":
        return (word + 0x7FFF + (word >> 16 & 1)) >> 16
    try:
        return int.from_bytes(struct.pack("<e", float(x)), "little")
    except OverflowError:
        return 0x7C00 | word >> 16 & 0x8000


def _narrow(y, x, n):
    held = cuda.local.array(EIGHT, types.float32)
    for i in range(n):
        ptx.store(y, i, x[i])
    for first in range(0, n, EIGHT):
        for lane in range(EIGHT):
            held[lane] = x[first + lane]
        ptx.store_vector(y, n + first, held)


def _widen(x, y, n):
    held = cuda.local.array(EIGHT, types.float32)
    for i in range(n):
        y[i] = ptx.load(x, i)
    for first in range(0, n, EIGHT):
        ptx.load_vector(held, x, first)
        for lane in range(EIGHT):
            y[n + first + lane] = held[lane]


def _through_memory(y, x, seen, n):
    for i in range(n):
        ptx.store(y, i, x[i])
        seen[i] = ptx.as_stored(y, x[i])


def _copy_vectors(x, y, n):
    held = cuda.local.array(EIGHT, types.float32)
    for first in range(0, n, ptx.lanes(x)):
        ptx.load_vector(held, x, first)
        ptx.store_vector(y, first, held)
    for first in range(0, n, 4):
        ptx.load_four(held, x, n - 4, -first, first != 8)
        held[0] += 1
        ptx.store_four(y, n, first, held)


def _shared_vectors(x, y):
    shared, held = cuda.shared.array(8, types.float32), cuda.local.array(EIGHT, types.float32)
    ptx.load_vector(held, x, 0)
    ptx.store_shared(shared, 4, held, 0)
    for i in range(4):
        shared[i] = -shared[4 + i]
    ptx.load_shared(held, 4, shared, 0)
    ptx.store_vector(y, 0, held)
    for i in range(4):
        y[4 + i] = held[4 + i]


def _unsigned(a, b, y):
    high, low = ptx.multiply_wide(a[0], b[0])
    y[0], y[1] = high, low


def _quotients(a, b, y, n):
    for i in range(n):
        y[i] = ptx.quotient(a[i], b[i])


def _words(x, y, n):
    for i in range(n):
        y[i] = ptx.from_bits(ptx.bits(x[i]) ^ SIGN)


def _reciprocals(x, y, n):
    for i in range(n):
        y[i] = ptx.reciprocal(x[i])


def _roots(x, y, n):
    for i in range(n):
        y[i] = ptx.root(x[i])


def _shifts(x, y, n):
    for i in range(n):
        y[i] = ptx.shift_right(x[i], i % WARPS)


def _presence(x, y):
    y[0] = np.int32(ptx.given(x))


def _lanes(x, y, votes):
    me = cuda.threadIdx.x
    y[me] = ptx.shuffle_xor(x[me], 5)
    y[64 + me] = ptx.shuffle(x[me], (me + 3) & 31)
    votes[me] = np.int32(ptx.ballot(x[me] > 3))


def _elementary(x, y, n, a, b):
    for i in range(n):
        v = x[i]
        y[i] = _math.exp(v)
        y[n + i] = _math.log(_math.absolute(v))
        y[2 * n + i] = _math.tanh(v)
        y[3 * n + i] = _math.sqrt(_math.absolute(v))
        y[4 * n + i] = _math.expm1(v)
        y[5 * n + i] = _math.log1p(_math.absolute(v))
        y[6 * n + i] = _math.erf(v)
        y[7 * n + i] = _math.floor(v)
        y[8 * n + i] = _math.fma(v, a, b)
        y[9 * n + i] = _math.sigmoid(v)
        y[10 * n + i] = _math.power(_math.absolute(v), a)


def _extremes(x, y, n, low, high):
    for i in range(n):
        y[i] = _math.clip(x[i], low, high)
        y[n + i] = _math.larger(x[i], low)
        y[2 * n + i] = _math.larger(low, x[i])
        y[3 * n + i] = _math.smaller(x[i], high)
        y[4 * n + i] = _math.smaller(high, x[i])
        y[5 * n + i] = 1 if _math.isnan(x[i]) else 0


def _block(x, y, warps):
    shared = cuda.shared.array(WARPS, types.float32)
    me = cuda.threadIdx.x
    total = _reduce.block_sum(x[me], shared, warps)
    largest = _reduce.block_largest(x[me], shared, warps)
    y[2 * me], y[2 * me + 1] = total, largest


def _random(counters, words, numbers, call, seed, n):
    for i in range(n):
        drawn = _philox.philox(np.uint64(counters[i]), np.uint64(call), np.uint64(seed))
        words[4 * i], words[4 * i + 1], words[4 * i + 2], words[4 * i + 3] = drawn
        numbers[4 * i], numbers[4 * i + 1] = _philox.normal_pair(drawn[0], drawn[1])
        numbers[4 * i + 2], numbers[4 * i + 3] = _philox.normal_pair(drawn[2], drawn[3])


@pytest.mark.parametrize("name", HALVES)
def test_cuda_floats_are_rounded_to_the_nearest(device, name):
    x, y = device.put(FLOATS), device.put(np.zeros(2 * FLOATS.size), dtype_of(name))
    kernel(block=1, y=STORAGE, x=F32, n=INT)(_narrow)(1, y, x, FLOATS.size)
    one_by_one, vectors = device.get(y).view(np.uint16).reshape(2, -1)
    want = np.array([rounded(x, name) for x in FLOATS], np.uint32).astype(np.uint16)
    numbers = ~np.isnan(FLOATS)
    assert np.array_equal(one_by_one[numbers], want[numbers])
    assert np.isnan(device.get(y).astype(np.float32).reshape(2, -1)[:, ~numbers]).all()
    assert np.array_equal(one_by_one[numbers], vectors[numbers])


@pytest.mark.parametrize("name", HALVES)
def test_cuda_halves_become_the_same_floats(device, name):
    values = np.arange(0, 2**16, 13, np.uint16)[: 2**12].view(dtype_of(name))
    y = device.put(np.zeros(2 * values.size), np.float32)
    kernel(block=1, x=STORAGE, y=F32, n=INT)(_widen)(1, device.put(values), y, values.size)
    words = values.view(np.uint16).astype(np.uint32)
    if name == "bfloat16":
        want = (words << 16).view(np.float32)
    else:
        want = np.array([struct.unpack("<e", struct.pack("<H", word))[0] for word in words], np.float32)
    for got in device.get(y).reshape(2, -1):
        assert np.array_equal(got, want, equal_nan=True)
        assert np.array_equal(np.signbit(got[want == 0]), np.signbit(want[want == 0]))


@pytest.mark.parametrize("name", ["float32", *HALVES])
def test_cuda_floats_as_memory_holds_them(device, name):
    y, seen = device.put(np.zeros(FLOATS.size), dtype_of(name)), device.put(np.zeros(FLOATS.size), np.float32)
    through = kernel(block=1, y=STORAGE, x=F32, seen=F32, n=INT)(_through_memory)
    with np.errstate(over="ignore"):
        through(1, y, device.put(FLOATS), seen, FLOATS.size)
    assert np.array_equal(device.get(seen), device.get(y).astype(np.float32), equal_nan=True)


@pytest.mark.parametrize("name", ["float32", *HALVES])
def test_cuda_vectors_are_copied(device, name):
    values = np.arange(1, 65).astype(dtype_of(name))
    x, y = device.put(values), device.put(np.zeros(128), values.dtype)
    kernel(block=1, x=STORAGE, y=STORAGE, n=INT)(_copy_vectors)(1, x, y, 64)
    vectors, fours = device.get(y).reshape(2, -1)
    assert np.array_equal(vectors, values)
    want = values.reshape(-1, 4)[::-1].astype(np.float32)
    want[2] = 0
    want[:, 0] += 1
    assert np.array_equal(fours.reshape(-1, 4).astype(np.float32), want)


def test_cuda_vectors_of_shared_memory(device):
    y = device.put(np.zeros(8), np.float32)
    kernel(block=1, x=STORAGE, y=F32)(_shared_vectors)(1, device.put([1, 2, 3, 4], np.float32), y)
    assert device.get(y).tolist() == [1, 2, 3, 4, -1, -2, -3, -4]


@pytest.mark.parametrize(("a", "b"), [(0, 5), (2**32 - 1, 2**32 - 1), (2**31, 3), (0xD2511F53, 0x9E3779B9)])
def test_cuda_products_of_32_bits(device, a, b):
    y = device.put([0, 0], np.uint32)
    kernel(block=1, a=U32, b=U32, y=U32)(_unsigned)(1, device.put([a], np.uint32), device.put([b], np.uint32), y)
    assert device.get(y).tolist() == [a * b >> 32, a * b & 0xFFFFFFFF]


def test_cuda_quotients(device):
    a, b = np.meshgrid([0, 1, 6, 7, 48, 2**31 - 1], [1, 2, 7, 2**31 - 1])
    y = device.put(np.zeros(a.size), np.int32)
    arrays = device.put(a.ravel(), np.int32), device.put(b.ravel(), np.int32)
    kernel(block=1, a=I32, b=I32, y=I32, n=INT)(_quotients)(1, *arrays, y, a.size)
    assert np.array_equal(device.get(y), (a // b).ravel())


def test_cuda_bits_of_floats(device):
    y = device.put(np.zeros(FLOATS.size), np.float32)
    kernel(block=1, x=F32, y=F32, n=INT)(_words)(1, device.put(FLOATS), y, FLOATS.size)
    assert np.array_equal(device.get(y).view(np.uint32), FLOATS.view(np.uint32) ^ 0x80000000)


def test_cuda_reciprocals(device):
    y = device.put(np.zeros(FLOATS.size), np.float32)
    with np.errstate(all="ignore"):
        kernel(block=1, x=F32, y=F32, n=INT)(_reciprocals)(1, device.put(FLOATS), y, FLOATS.size)
        tiny = np.finfo(np.float32).tiny
        x = np.where(np.abs(FLOATS) < tiny, FLOATS * 0, FLOATS).astype(np.float64)
        want = np.where(np.abs(1 / x) < tiny, 0 / x, 1 / x)
    got = device.get(y)
    assert np.array_equal(np.isnan(got), np.isnan(want))
    finite = np.isfinite(want)
    assert np.array_equal(got[~finite & ~np.isnan(want)], want[~finite & ~np.isnan(want)])
    assert (np.abs(got[finite] - want[finite]) <= np.abs(want[finite]) * 2.0**-22).all()


def test_cuda_roots(device):
    x = np.concatenate([FLOATS[np.finfo(np.float32).tiny <= FLOATS], [0, 2, 9, np.inf]]).astype(np.float32)
    y = device.put(np.zeros(x.size), np.float32)
    kernel(block=1, x=F32, y=F32, n=INT)(_roots)(1, device.put(x), y, x.size)
    want = np.sqrt(x.astype(np.float64))
    got = device.get(y)
    finite = np.isfinite(want)
    assert np.array_equal(got[~finite], want[~finite])
    assert (np.abs(got[finite] - want[finite]) <= want[finite] * 2.0**-22).all()


def test_cuda_words_are_shifted_without_their_sign(device):
    words = np.random.default_rng(0).integers(-(2**31), 2**31, 64).astype(np.int32)
    y = device.put(np.zeros(64), np.int32)
    kernel(block=1, x=I32, y=I32, n=INT)(_shifts)(1, device.put(words, np.int32), y, 64)
    want = words.view(np.uint32) >> np.arange(64, dtype=np.uint32) % 32
    np.testing.assert_array_equal(device.get(y).view(np.uint32), want)


def test_cuda_a_null_pointer_is_not_given(device):
    for x, want in ((None, 0), (device.put(np.ones(1), np.float32), 1)):
        y = device.put(np.full(1, -1), np.int32)
        kernel(block=1, x=F32, y=I32)(_presence)(1, x, y)
        assert device.get(y)[0] == want


def test_cuda_lanes_exchange_values(device, order):
    x = np.random.default_rng(0).integers(0, 7, 64).astype(np.float32)
    y, votes = device.put(np.zeros(128), np.float32), device.put(np.zeros(64), np.int32)
    kernel(block=64, x=F32, y=F32, votes=I32)(_lanes)(1, device.put(x), y, votes)
    lane = np.arange(64)
    assert np.array_equal(device.get(y)[:64], x[lane ^ 5])
    assert np.array_equal(device.get(y)[64:], x[lane // 32 * 32 + (lane + 3) % 32])
    words = [sum(1 << i for i in range(32) if x[32 * warp + i] > 3) for warp in (0, 1)]
    assert np.array_equal(device.get(votes).view(np.uint32), np.repeat(np.array(words, np.uint32), 32))


def test_cuda_elementary_functions(device):
    x = np.array([-80, -9, -2.5, -1, -0.3, -1e-4, 1e-30, 1e-4, 0.1, 0.5, 1, 1.7, 4, 9, 30, 80], np.float32)
    y = device.put(np.zeros(11 * x.size), np.float32)
    a, b = np.float32(1.3), np.float32(-0.7)
    kernel(block=1, x=F32, y=F32, n=INT, a=FLOAT, b=FLOAT)(_elementary)(1, device.put(x), y, x.size, a, b)
    v, a, b = x.astype(np.float64), float(a), float(b)
    want = [np.exp(v), np.log(np.abs(v)), np.tanh(v), np.sqrt(np.abs(v)), np.expm1(v), np.log1p(np.abs(v)),
            [math.erf(u) for u in v], np.floor(v), v * a + b, 1 / (1 + np.exp(-v)), np.abs(v) ** a]  # fmt: skip
    for number, (got, right) in enumerate(zip(device.get(y).reshape(11, -1), np.array(want))):
        np.testing.assert_allclose(got, right, rtol=4e-6, atol=1e-37, err_msg=f"function {number}")


def test_cuda_extremes_and_nan(device):
    x = np.array([-5, -1, 0, 2, 3, np.inf, -np.inf, np.nan], np.float32)
    y = device.put(np.zeros(6 * x.size), np.float32)
    kernel(block=1, x=F32, y=F32, n=INT, low=FLOAT, high=FLOAT)(_extremes)(1, device.put(x), y, x.size, -1.0, 2.0)
    low, high = np.maximum(x, -1), np.minimum(x, 2)
    want = np.stack([np.clip(x, -1, 2), low, low, high, high, np.isnan(x)])
    assert np.array_equal(device.get(y).reshape(6, -1), want, equal_nan=True)


@pytest.mark.parametrize("warps", [1, 3, 8])
def test_cuda_sums_and_maxima_of_a_block(device, order, warps):
    x = np.random.default_rng(warps).standard_normal(32 * warps).astype(np.float32)
    reduce, y = kernel(block=32 * warps, x=F32, y=F32, warps=INT)(_block), device.put(np.zeros(64 * warps), np.float32)
    reduce(1, device.put(x), y, warps)
    total, largest = device.get(y).reshape(-1, 2).T
    assert np.array_equal(total, np.repeat(tree(x.reshape(warps, 32)), 32 * warps))
    assert (largest == x.max()).all()
    x[-1] = np.nan
    reduce(1, device.put(x), y, warps)
    assert np.isnan(device.get(y)).all()


def tree(x):
    """Sums in the order of the kernels: bit for bit, whatever the order of threads."""
    lanes = np.arange(32)
    for mask in (16, 8, 4, 2, 1):
        x = x + x[:, lanes ^ mask]
    if len(x) == 1:
        return x[0, 0]
    return tree(np.pad(x[:, 0], (0, 32 - len(x)))[None])


@pytest.mark.parametrize(("call", "seed"), [(0, 0), (3, 7), (2**64 - 1, 0x123456789ABCDEF0)])
def test_cuda_random_words_and_normals(device, call, seed):
    counters = np.array([0, 1, 2**32 - 1, 2**32, 2**62 + 5], np.uint64)
    words, numbers = device.put(np.zeros(4 * 5), np.uint32), device.put(np.zeros(4 * 5), np.float32)
    draw = kernel(block=1, counters="u64", words=U32, numbers=F32, call=LONG, seed=LONG, n=INT)(_random)
    signed = _philox.signed(call), _philox.signed(seed)
    draw(1, device.put(counters), words, numbers, *signed, len(counters))
    low, high = np.uint64(0xFFFFFFFF), np.uint64(32)
    four = np.stack([counters & low, counters >> high, np.full(5, call & 0xFFFFFFFF, np.uint64),
                     np.full(5, call >> 32, np.uint64)], -1).astype(np.uint32)
    want = reference.philox(four, (seed & 0xFFFFFFFF, seed >> 32))
    assert np.array_equal(device.get(words).reshape(-1, 4), want)
    np.testing.assert_allclose(device.get(numbers).reshape(-1, 4), reference.normals(want), rtol=2e-6, atol=2e-6)


def test_cuda_philox_is_that_of_its_authors(device):
    """The known answers of Random123: kat_vectors, philox4x32 10."""
    words, numbers = device.put(np.zeros(4), np.uint32), device.put(np.zeros(4), np.float32)
    draw = kernel(block=1, counters="u64", words=U32, numbers=F32, call=LONG, seed=LONG, n=INT)(_random)
    draw(1, device.put([0], np.uint64), words, numbers, 0, 0, 1)
    assert device.get(words).tolist() == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    draw(1, device.put([2**64 - 1], np.uint64), words, numbers, -1, -1, 1)
    assert device.get(words).tolist() == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]


def test_cuda_every_instruction_is_tried():
    """What `ptx.py` offers to kernels appears above."""
    source = Path(ptx.__file__).read_text()
    offered = set(re.findall(r"(?m)^    (?:@intrinsic|@device)\n    def (\w+)", source))
    assert {"load", "store_vector", "shuffle_xor"} <= offered
    assert not {name for name in offered if f"ptx.{name}(" not in Path(__file__).read_text()}
