"""Convolutions by warpgroup products and bulk copies, and what the emulation of both finds wrong."""

import sys

import numpy as np
import pytest

from nnk.kernels import parity, reference
from nnk.kernels.cases.conv2d import _case
from nnk.kernels.cuda import _arithmetic, _chooser, _mma_gemm, _mma_wgrad
from nnk.kernels.cuda._layout import empty_image
from nnk.kernels.cuda._numba import SIMULATED, cuda, types
from nnk.kernels.cuda._window import dgrad_windows, forward_axis
from nnk.kernels.cuda.launch import F32, INT, STORAGE, kernel
from nnk.kernels.ops import OPS
from nnk.kernels.shapes import conv_output_size

ml_dtypes = pytest.importorskip("ml_dtypes")
pytestmark = pytest.mark.skipif(not SIMULATED, reason="whole operations prove these on a GPU")
if SIMULATED:
    from nnk.kernels.cuda import _tma_gemm, _tma_wgrad, _wgmma_gemm
    from nnk.kernels.cuda._operands import weight_rows
    from nnk.kernels.cuda._tensor_map import fits
    from nnk.kernels.cuda.ptx_tma import barrier_expect, barrier_init, barrier_wait
    from nnk.kernels.cuda.ptx_wgmma import hold, multiply_shared, multiply_transposed, wgmma_commit, wgmma_wait

DTYPES = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
EPS = {"float32": 2.0**-20, "float16": 2.0**-11, "bfloat16": 2.0**-8}  # up to 81 sums in a row; the result's rounding
# images, channels, h, w, filters, r, s, stride, padding, dilation, groups
CASES = {
    "tails": (2, 40, 9, 8, 72, 3, 3, 1, 1, 1, 1),
    "stride": (1, 16, 5, 7, 24, 3, 3, 2, 1, 1, 1),
    "pointwise": (3, 64, 5, 5, 136, 1, 1, 1, 0, 1, 1),
    "groups": (1, 128, 6, 11, 32, 3, 2, 1, 2, 2, 2),
    "dilation": (1, 32, 7, 6, 16, 3, 3, 2, 1, 2, 1),
    "linear": (20, 40, 1, 1, 16, 1, 1, 1, 0, 1, 1),
    "wide": (1, 32, 4, 4, 264, 1, 1, 1, 0, 1, 1),
    "narrow groups": (2, 24, 5, 4, 48, 2, 3, 1, 1, 1, 3),
    "far taps": (1, 8, 9, 3, 8, 3, 1, 3, 64, 60, 1),
    "one pixel": (1, 16, 1, 1, 8, 1, 1, 1, 0, 1, 1),
    "tiles": (3, 8, 7, 7, 72, 1, 1, 1, 0, 1, 1),
}
RUNGS = ("_tma_gemm", "_wgmma_gemm")


@pytest.fixture
def order(request):
    """Threads run in both orders; bulk copies land late in the first, at once in the second."""
    sys.modules["cuda_simulator"].order.backward = request.param == "backward"
    yield
    sys.modules["cuda_simulator"].order.backward = False


both_orders = pytest.mark.parametrize(("dtype", "order"), [("float32", "forward"), ("bfloat16", "backward")],
                                      indirect=["order"])


def factors(values, dtype):
    """The numbers as tensor cores see them, in memory and in float64."""
    values = np.asarray(values, dtype)
    if dtype != np.float32:
        return values, values.astype(np.float64)
    values.view(np.uint32)[...] |= 1  # no ties, which kernels round away from zero and the copy engine to even
    seen = (values.view(np.uint32) + np.uint32(0x1000)) & np.uint32(0xFFFFE000)
    return values, seen.view(np.float32).astype(np.float64)


def channels_last(x):
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


def check(y, want, dtype):
    assert np.abs(np.asarray(y, np.float64) - want).max() <= EPS[dtype] * np.abs(want).max()


def rung_of(name):
    return {"_tma_gemm": _tma_gemm, "_wgmma_gemm": _wgmma_gemm}[name]


@both_orders
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("rung", RUNGS)
def test_cuda_forward(rung, case, dtype, order):
    n, c, h, w, k, r, s, stride, padding, dilation, groups = CASES[case]
    rng = np.random.default_rng(0)
    x, x_seen = factors(rng.standard_normal((n, c, h, w)), DTYPES[dtype])
    weight, weight_seen = factors(rng.standard_normal((k, c // groups, r, s)) / (c * r * s) ** 0.5, DTYPES[dtype])
    p, q = conv_output_size(h, r, stride, padding, dilation), conv_output_size(w, s, stride, padding, dilation)
    want = reference.conv2d(x_seen, weight_seen, stride=(stride,) * 2, padding=(padding,) * 2, dilation=(dilation,) * 2,
                            groups=groups)
    window = forward_axis(p, r, stride, padding, dilation), forward_axis(q, s, stride, padding, dilation)
    x, y = channels_last(x), empty_image(n, k, p, q, x.dtype)
    if rung == "_tma_gemm" and case == "narrow groups":  # a group ends in the middle of a step
        assert not rung_of(rung).supports(x.itemsize, x.shape, y.shape, groups, window)
        return
    assert rung_of(rung).supports(x.itemsize, x.shape, y.shape, groups, window)
    epilogue = ()
    if case in ("tails", "pointwise"):
        scale, bias = rng.standard_normal((2, k)).astype(np.float32)
        residual = channels_last(rng.standard_normal(y.shape).astype(x.dtype))
        epilogue = scale, bias, True, residual
        want = np.maximum(want * scale[:, None, None] + bias[:, None, None] + residual.astype(np.float64), 0)
    rung_of(rung).convolve(x, weight_rows(weight, groups, window, False, x.dtype), y, groups, window, *epilogue)
    check(y, want, dtype)


@pytest.mark.parametrize(("case", "columns", "dtype", "order"), [
    ("tiles", 64, "float32", "forward"), ("tiles", 64, "bfloat16", "backward"), ("stride", 128, "float32", "backward"),
    ("groups", 64, "float16", "forward"), ("wide", 128, "bfloat16", "forward"), ("wide", 256, "float32", "backward"),
    ("wide", 256, "float16", "forward"), ("one pixel", 64, "float32", "forward"),
], indirect=["order"])  # fmt: skip
@pytest.mark.parametrize("rung", RUNGS)
def test_cuda_statistics_of_what_is_written(rung, case, columns, dtype, order):
    n, c, h, w, k, r, s, stride, padding, dilation, groups = CASES[case]
    rng = np.random.default_rng(0)
    p, q = conv_output_size(h, r, stride, padding, dilation), conv_output_size(w, s, stride, padding, dilation)
    window = forward_axis(p, r, stride, padding, dilation), forward_axis(q, s, stride, padding, dilation)
    x, weight = (rng.standard_normal(size).astype(DTYPES[dtype]) for size in ((n, c, h, w), (k, c // groups, r, s)))
    x, (pixels, y) = channels_last(x), ((n * p * q), empty_image(n, k, p, q, DTYPES[dtype]))
    epilogue = None, np.full(k, 5000, np.float32), False  # a mean far above the deviations
    if case == "tiles":
        scale, bias = rng.standard_normal((2, k)).astype(np.float32)
        epilogue = scale, bias, True, channels_last(rng.standard_normal(y.shape).astype(x.dtype))
    sets = [np.full((-(-pixels // 128), k), np.nan, np.float32) for _ in range(3)]
    rows = weight_rows(weight, groups, window, False, x.dtype)
    rung_of(rung).convolve(x, rows, y, groups, window, *epilogue, sets=sets, tile=(128, columns))
    again = np.empty_like(y)
    rung_of(rung).convolve(x, rows, again, groups, window, *epilogue, tile=(128, columns))
    assert np.array_equal(y, again)
    values = y.astype(np.float64).transpose(0, 2, 3, 1).reshape(pixels, k)
    for lot, (counts, means, squares) in enumerate(zip(*sets)):
        tile = values[128 * lot : 128 * lot + 128]
        deviations = tile - tile.mean(0)
        assert (counts == len(tile)).all()
        np.testing.assert_allclose(means, tile.mean(0), rtol=2.0**-23, atol=2.0**-21 * np.abs(deviations).max())
        np.testing.assert_allclose(squares, (deviations**2).sum(0), rtol=2.0**-19)


@pytest.mark.parametrize(("rung", "channels", "dtype", "precision"), [
    ("_tma_gemm", 64, "bfloat16", "highest"), ("_wgmma_gemm", 8, "float32", "high"),
])  # fmt: skip
def test_cuda_batch_norm_takes_these_statistics(rung, channels, dtype, precision, cuda_kernels, monkeypatch):
    monkeypatch.setattr(_arithmetic, "SIMULATED_CAPABILITY", (9, 0))
    rng, used = np.random.default_rng(0), []
    original = rung_of(rung).convolve
    monkeypatch.setattr(rung_of(rung), "convolve", lambda *args, **given: used.append(original(*args, **given)))
    x, weight = rng.standard_normal((3, channels, 7, 9)), rng.standard_normal((40, channels, 1, 1))
    bias = np.full(40, 100, np.float32)
    y, sets = cuda_kernels.conv2d(x.astype(DTYPES[dtype]), weight.astype(DTYPES[dtype]), bias, precision=precision,
                                  statistics=True)
    assert len(used) == 1
    assert sets[0].sum() == y.size
    results = [cuda_kernels.batch_norm_train(y, None, None, None, None, momentum=0.1, eps=1e-5, statistics=statistics)
               for statistics in (sets, None)]
    assert len(results[0]) == 3
    for got, want in zip(*results):
        np.testing.assert_allclose(got.astype(np.float64), want.astype(np.float64), rtol=2e-6, atol=2e-6)


@both_orders
@pytest.mark.parametrize("case", ["stride", "dilation", "tails"])
@pytest.mark.parametrize("rung", RUNGS)
def test_cuda_dgrad(rung, case, dtype, order):
    n, c, h, w, k, r, s, stride, padding, dilation, groups = CASES[case]
    rng = np.random.default_rng(0)
    p, q = conv_output_size(h, r, stride, padding, dilation), conv_output_size(w, s, stride, padding, dilation)
    options = dict(stride=(stride,) * 2, padding=(padding,) * 2, dilation=(dilation,) * 2)
    dy, dy_seen = factors(rng.standard_normal((n, k, p, q)), DTYPES[dtype])
    weight, weight_seen = factors(rng.standard_normal((k, c, r, s)) / (c * r * s) ** 0.5, DTYPES[dtype])
    want = reference.conv2d_dgrad(dy_seen, weight_seen, (n, c, h, w), **options)
    dy, dx = channels_last(dy), empty_image(n, c, h, w, dy.dtype)
    dx[:] = 0 if rung == "_tma_gemm" else np.nan  # which leaves pixels alone that no tap reaches
    for window in dgrad_windows((h, w), (r, s), *options.values()):
        supported = rung_of(rung).supports(dy.itemsize, dy.shape, dx.shape, groups, window)
        assert supported == (rung == "_wgmma_gemm" or all(axis.taps for axis in window))
        if supported:
            rung_of(rung).convolve(dy, weight_rows(weight, groups, window, True, dy.dtype), dx, groups, window)
    check(dx, want, dtype)


@pytest.mark.parametrize(("case", "dtype", "order"), [
    ("tails", "bfloat16", "forward"), ("stride", "float16", "backward"), ("pointwise", "bfloat16", "backward"),
    ("groups", "float16", "forward"), ("narrow groups", "bfloat16", "forward"), ("linear", "float16", "forward"),
    ("dilation", "bfloat16", "backward"),
], indirect=["order"])  # fmt: skip
def test_cuda_wgrad(case, dtype, order, monkeypatch):
    monkeypatch.setattr(_tma_wgrad, "LEAST_SHARE", 64)
    n, c, h, w, k, r, s, stride, padding, dilation, groups = CASES[case]
    rng = np.random.default_rng(0)
    p, q = conv_output_size(h, r, stride, padding, dilation), conv_output_size(w, s, stride, padding, dilation)
    dy, dy_seen = factors(rng.standard_normal((n, k, p, q)), DTYPES[dtype])
    x, x_seen = factors(rng.standard_normal((n, c, h, w)), DTYPES[dtype])
    shape = (k, c // groups, r, s)
    want = reference.conv2d_wgrad(dy_seen, x_seen, shape, stride=(stride,) * 2, padding=(padding,) * 2,
                                  dilation=(dilation,) * 2, groups=groups)
    window = forward_axis(p, r, stride, padding, dilation), forward_axis(q, s, stride, padding, dilation)
    assert _tma_wgrad.supports(x.itemsize, x.shape, window)
    dweight = _tma_wgrad.wgrad(channels_last(dy), channels_last(x), shape, groups, window)
    check(dweight, want, "float32")


@pytest.mark.parametrize("rung", RUNGS)
def test_cuda_bfloat16_factors_give_float32(rung):
    rng = np.random.default_rng(0)
    x, x_seen = factors(rng.standard_normal((2, 16, 5, 5)), ml_dtypes.bfloat16)
    weight, weight_seen = factors(rng.standard_normal((8, 16, 3, 3)), ml_dtypes.bfloat16)
    window = forward_axis(5, 3, 1, 1, 1), forward_axis(5, 3, 1, 1, 1)
    y = empty_image(2, 8, 5, 5, np.float32)
    rung_of(rung).convolve(channels_last(x), weight_rows(weight, 1, window, False, x.dtype), y, 1, window)
    check(y, reference.conv2d(x_seen, weight_seen, padding=(1, 1)), "float32")


@pytest.mark.parametrize(("dtype", "want"), [
    ("float32", "_tma_gemm _wgmma_gemm _mma_wgrad"), ("bfloat16", "_tma_gemm _wgmma_gemm _tma_wgrad")
])  # fmt: skip
def test_cuda_whole_operations_take_these_rungs(dtype, want, cuda_kernels, monkeypatch):
    (suite,) = (op.suite for op in OPS if op.name == "conv2d")
    case = _case("hopper", (5, 64, 7, 5), (40, 64, 3, 3), padding=(1, 1), stride=(2, 1), precision="high", infer=True)
    monkeypatch.setattr(_arithmetic, "SIMULATED_CAPABILITY", (9, 0))
    used = set()
    for rung in (_tma_gemm, _wgmma_gemm, _mma_gemm, _tma_wgrad, _mma_wgrad):
        name = "wgrad" if hasattr(rung, "wgrad") else "convolve"
        original = getattr(rung, name)

        def run(*args, rung=rung, original=original, **options):
            used.add(rung.__name__.rpartition(".")[2])
            return original(*args, **options)

        monkeypatch.setattr(rung, name, run)
    with np.errstate(all="ignore"):
        assert max(parity.compare(suite, case, cuda_kernels, DTYPES[dtype]).values()) <= 1
    assert used == set(want.split())


@pytest.mark.parametrize(("capability", "x", "y", "groups", "want"), [
    ((8, 0), (8, 64, 9, 9), (8, 64, 9, 9), 1, ("mma",)),
    ((10, 0), (8, 64, 9, 9), (8, 64, 9, 9), 1, ("mma",)),
    ((9, 0), (8, 64, 9, 9), (8, 64, 9, 9), 1, ("tma", "wgmma", "mma")),
    ((9, 0), (8, 8, 9, 9), (8, 64, 9, 9), 1, ("wgmma", "tma", "mma")),  # steps would be mostly zeros
    ((9, 0), (8, 48, 9, 9), (8, 96, 9, 9), 3, ("wgmma", "mma")),  # groups end in the middle of a step
    ((9, 0), (8, 64, 9, 9), (8, 10, 9, 9), 1, ("mma",)),
    ((9, 0), (1, 64, 5, 5), (1, 64, 5, 5), 1, ("mma", "tma", "wgmma")),  # few pixels
])
def test_cuda_the_ladder(capability, x, y, groups, want):
    window = forward_axis(x[2], 3, 1, 1, 1), forward_axis(x[3], 3, 1, 1, 1)
    assert _chooser.rungs(capability, 4, x, y, groups, window) == want


@pytest.mark.parametrize(("axis", "size", "can"), [
    (forward_axis(112, 7, 2, 3, 1), 224, True),
    (forward_axis(10, 2, 9, 0, 1), 90, False),  # a stride above 8
    (forward_axis(500, 200, 1, 199, 1), 301, False),  # padding beyond 128
    (forward_axis(60, 3, 1, 100, 100), 60, True),
    (forward_axis(90, 3, 1, 128, 128), 90, False),  # taps 256 apart
])
def test_cuda_what_the_copy_engine_walks(axis, size, can):
    assert fits(axis, size) == can


def _product(rewrite, transposed):
    def probe(a, b, y):
        shared = cuda.shared.array(8 * 1024, types.uint32, alignment=1024)
        sums = cuda.local.array(32, types.float32)
        thread = cuda.threadIdx.x
        for row in range(thread, 128, 128):
            for piece in range(8):
                at = (row * 8 + (piece ^ (row & 7))) * 4
                side, i = (a, row) if row < 64 else (b, row - 64)
                shared[at : at + 4] = side.vector((i * 8 + piece) * (16 // side.memory.itemsize)).view(np.uint32)
        cuda.syncthreads()
        sums[:] = 0
        for k in range(4):
            if transposed:
                multiply_transposed[64](sums, shared, 512 * k, 2048 + 512 * k, a)
            else:
                multiply_shared[64](sums, shared, 8 * k, 2048 + 8 * k, a)
        wgmma_commit()
        if rewrite:
            cuda.syncthreads()
            shared[thread] = 0
        wgmma_wait(0)
        hold[64](sums)
        lane, warp = thread % 32, thread // 32
        for j in range(8):
            for i in range(4):
                y[(16 * warp + lane // 4 + i // 2 * 8) * 64 + 8 * j + 2 * (lane % 4) + i % 2] = sums[4 * j + i]

    return kernel(block=128, name=f"probe_{rewrite}_{transposed}", a=STORAGE, b=STORAGE, y=F32)(probe)


_PROBES = {which: _product(*which) for which in ((0, 0), (1, 0), (0, 1))}


@pytest.mark.parametrize("dtype", DTYPES)
def test_cuda_products_of_a_warpgroup(dtype):
    rng, size = np.random.default_rng(0), 128 // np.dtype(DTYPES[dtype]).itemsize
    a, b = rng.standard_normal((2, 64, size)).astype(np.float32)
    a, b = a.astype(DTYPES[dtype]), b.astype(DTYPES[dtype])
    y = np.empty((64, 64), np.float32)
    _PROBES[0, 0](1, a, b, y)

    def cut(x):
        return (x.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32) if dtype == "float32" else x

    want = cut(a).astype(np.float64) @ cut(b).astype(np.float64).T
    check(y, want, "float32")
    if dtype != "float32":  # the same memory as 64 places of the reduction by 64 rows
        _PROBES[0, 1](1, a, b, y)
        check(y, a.astype(np.float64).T @ b.astype(np.float64), "float32")


def test_cuda_operands_must_stay_until_the_product_is_waited_for():
    a, b = np.ones((2, 64, 32), np.float32)
    with pytest.raises(RuntimeError, match="written over before the product"):
        _PROBES[1, 0](1, a, b, np.empty((64, 64), np.float32))


@kernel(block=32, name="probe_barrier", count=INT, arrivals=INT)
def _barrier(count, arrivals):
    shared = cuda.shared.array(2, types.uint32)
    if cuda.threadIdx.x == 0:
        barrier_init(shared, 0, count)
    cuda.syncthreads()
    if cuda.threadIdx.x < arrivals:
        barrier_expect(shared, 0, 0)
    barrier_wait(shared, 0, 0)


def test_cuda_barriers_count_their_arrivals():
    _barrier(1, 3, 3)
    with pytest.raises(RuntimeError, match="wait for ever at a barrier in shared memory"):
        _barrier(1, 3, 2)
