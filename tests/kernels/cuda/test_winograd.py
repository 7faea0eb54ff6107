"""Strict float32 3 × 3 convolutions by Winograd's F(2 × 2, 3 × 3): awkward shapes, slices, epilogue, error, choice."""

import numpy as np
import pytest

from nnk.kernels import parity, reference
from nnk.kernels.cases.conv2d import _case
from nnk.kernels.cuda import _arithmetic, _chooser, _implicit_gemm, _wgrad, _winograd
from nnk.kernels.cuda._layout import channels_last, empty_image
from nnk.kernels.cuda._memory import empty
from nnk.kernels.cuda._numba import SIMULATED
from nnk.kernels.cuda._window import dgrad_windows, forward_axis
from nnk.kernels.ops import OPS
from nnk.kernels.shapes import conv_output_size

simulated = pytest.mark.skipif(not SIMULATED, reason="changes what the simulator is")
(SUITE,) = (op.suite for op in OPS if op.name == "conv2d")
FLOAT32 = np.dtype(np.float32)
BOUND = 2e-6  # of the RMS
WORST = 1e-6  # of the sum of the products' absolute values: what precision "highest" promises
# Images, channels, filters, height, width: the last ones on a GPU take several slices, shares and blocks.
WHOLE = [(2, 12, 8, 5, 3)] if SIMULATED else [(2, 12, 8, 5, 3), (5, 96, 136, 15, 13), (16, 128, 160, 56, 55)]
SHAPES = {  # images, filters, padding
    "odd": ((2, 8, 5, 7), 4, (1, 1)),
    "even": ((1, 4, 6, 4), 12, (1, 1)),
    "one_pixel": ((3, 4, 1, 1), 8, (1, 1)),
    "unpadded": ((1, 4, 3, 5), 4, (0, 0)),
    "wide_padding": ((1, 4, 2, 3), 4, (2, 3)),
    "asymmetric": ((2, 4, 4, 3), 8, ((0, 2), (1, 0))),
    "empty_batch": ((0, 4, 4, 4), 4, (1, 1)),
}


def matrix_product(x, matrix, y, groups, window, *, tile):
    """What `_implicit_gemm.convolve` does for a 1 × 1 window, term after term, in a blink."""
    v, m = (a.reshape(len(a), groups, -1) for a in (x, y))
    m[...] = 0
    for c in range(v.shape[2]):
        m += v[:, :, c, None] * matrix[:, c]


def share_product(dy, x, partial, weight_shape, groups, window, tile):
    """What `_wgrad.multiply_shares` does, all in the first share."""
    d, v = (a.reshape(len(a), groups, -1) for a in (dy, x))
    sums = np.zeros((groups, d.shape[2], v.shape[2]), np.float32)
    for t in range(len(v)):
        sums += d[t, :, :, None] * v[t, :, None]
    partial[...] = 0
    partial[0] = sums.reshape(partial.shape[1:])


@pytest.fixture
def quick(monkeypatch):
    """NumPy multiplies the matrices: the kernels for that have tests of their own, and most of the time."""
    monkeypatch.setattr(_implicit_gemm, "convolve", matrix_product)
    monkeypatch.setattr(_wgrad, "multiply_shares", share_product)


class Problem:
    """Random operands, what float64 makes of them, and what the kernels do."""

    def __init__(self, shape, filters, padding, rng=None, mean=0):
        rng = np.random.default_rng(0) if rng is None else rng

        def normal(*shape, mean=0):
            array = empty(shape)
            array[...] = rng.standard_normal(shape) + mean
            return array

        self.padding, size = padding, [conv_output_size(n, 3, 1, p, 1) for n, p in zip(shape[2:], padding)]
        self.x, self.weight = channels_last(normal(*shape, mean=mean)), normal(filters, shape[1], 3, 3)
        self.dy, self.residual = (channels_last(normal(shape[0], filters, *size)) for _ in range(2))
        self.scale, self.bias = normal(filters), normal(filters)
        self.window = tuple(forward_axis(n, 3, 1, p, 1) for n, p in zip(size, padding))

    def forward(self, *epilogue, **options):
        return self._convolve(self.x, empty_image(*self.dy.shape), self.window, False, *epilogue, **options)

    def statistics(self, *epilogue):
        """y, and its statistics with it."""
        sets = tuple(empty((3, _winograd.lots(len(self.x), self.window), len(self.weight))))
        return self.forward(*epilogue, sets=sets), sets

    def dgrad(self):
        (window,) = dgrad_windows(self.x.shape[2:], (3, 3), (1, 1), self.padding, (1, 1))
        return self._convolve(self.dy, empty_image(*self.x.shape), window, True)

    def wgrad(self):
        tile = _winograd.wgrad_tiles(self.x.shape, self.weight.shape, 1, self.window)[0]
        return _winograd.wgrad(self.dy, self.x, self.weight.shape, 1, self.window, tile=tile)

    def _convolve(self, x, y, window, transposed, *epilogue, **options):
        tile = _winograd.tiles(x.shape, y.shape, 1, window)[0]
        u = _winograd.pack(self.weight, 1, window, transposed)
        _winograd.convolve(x, u, y, 1, window, *epilogue, tile=tile, **options)
        return y

    def results(self):
        return self.forward(), self.dgrad(), self.wgrad()

    def exact(self, change=lambda a: a):
        """y, dx and dweight in float64, of operands after a change."""
        x, weight, dy = (change(a.astype(np.float64)) for a in (self.x, self.weight, self.dy))
        return (reference.conv2d(x, weight, padding=self.padding),
                reference.conv2d_dgrad(dy, weight, x.shape, padding=self.padding),
                reference.conv2d_wgrad(dy, x, weight.shape, padding=self.padding))


def error(got, want):
    """The RMS of the error as a share of that of the result."""
    assert got.shape == want.shape
    assert got.dtype == np.float32
    return np.sqrt(np.square(got - want).sum() / max(np.square(want).sum(), 1e-30))


@simulated
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_cuda_winograd_in_all_directions(shape, quick, order):
    problem = Problem(*shape)
    assert max(map(error, problem.results(), problem.exact())) <= BOUND


@simulated
@pytest.mark.parametrize("name", ["odd", "one_pixel"])
def test_cuda_winograd_a_slice_of_the_tiles_at_a_time(name, quick, monkeypatch):
    problem = Problem(*SHAPES[name])
    whole = problem.forward(), problem.dgrad()
    monkeypatch.setattr(_winograd, "ROWS", 1)
    monkeypatch.setattr(_winograd, "SLICE", 2 * 64 * 12)
    monkeypatch.setattr(_wgrad, "LEAST_SHARE", 1)
    assert len(list(_winograd._slices(3, 8, 4))) == 2
    assert all(map(np.array_equal, (problem.forward(), problem.dgrad()), whole))
    assert error(problem.wgrad(), problem.exact()[2]) <= BOUND


def test_cuda_winograd_slices_are_even_and_small():
    for count in (0, 1, 127, 128, 129, 5000, 100_000):
        runs = list(_winograd._slices(count, 64, 192))
        assert [first for first, _ in runs] == list(np.cumsum([0] + [length for _, length in runs]))[:-1]
        assert sum(length for _, length in runs) == count
        assert all(length % _winograd.ROWS == 0 for _, length in runs[:-1])
        assert all(64 * length * 256 <= _winograd.SLICE for _, length in runs)


@simulated
@pytest.mark.parametrize("name", ["odd", "asymmetric"])
def test_cuda_winograd_epilogue(name, quick):
    problem = Problem(*SHAPES[name])
    plain, _, _ = problem.exact()
    scale, bias = (v.astype(np.float64)[:, None, None] for v in (problem.scale, problem.bias))
    assert error(problem.forward(problem.scale), scale * plain) <= BOUND
    assert error(problem.forward(None, problem.bias), plain + bias) <= BOUND
    assert error(problem.forward(None, None, True), np.maximum(plain, 0)) <= BOUND
    everything = problem.forward(problem.scale, problem.bias, True, problem.residual)
    assert error(everything, np.maximum(scale * plain + bias + problem.residual, 0)) <= BOUND


@simulated
def test_cuda_winograd_nan_passes_the_activation(quick):
    problem = Problem(*SHAPES["even"])
    problem.x[0, 0, 0, 0] = np.nan
    y = problem.forward(None, None, True)
    assert np.isnan(y[0, :, 0, 0]).all()
    assert np.isfinite(y[0, :, 4:]).all()


def statistics_of(y, lot):
    """Counts, means and squared deviations of every `lot` tiles of 2 x 2."""
    tiles = [y[n, :, h : h + 2, w : w + 2].reshape(y.shape[1], -1).astype(np.float64)
             for n in range(len(y)) for h in range(0, y.shape[2], 2) for w in range(0, y.shape[3], 2)]  # fmt: skip
    lots = [np.concatenate(tiles[i : i + lot], 1) for i in range(0, len(tiles), lot)]
    return np.array([(np.full(len(v), v.shape[1]), v.mean(1), v.shape[1] * v.var(1)) for v in lots]).swapaxes(0, 1)


def check_statistics(problem, *epilogue):
    y, sets = problem.statistics(*epilogue)
    assert np.array_equal(y, problem.forward(*epilogue))  # both kernels compute the same
    (counts, means, squares), unit = statistics_of(y, 64), np.finfo(np.float32).eps
    assert np.array_equal(sets[0], counts)
    assert (np.abs(sets[1] - means) <= unit * (np.abs(means) + 4 * np.sqrt(squares / counts))).all()
    assert (np.abs(sets[2] - squares) <= 16 * unit * squares).all()


@simulated
@pytest.mark.parametrize(("shape", "filters"), [((2, 4, 5, 7), 4), ((3, 4, 13, 10), 36), ((3, 4, 1, 1), 8)], ids=str)
def test_cuda_winograd_statistics(shape, filters, quick, order):
    problem = Problem(shape, filters, (1, 1))
    check_statistics(problem)
    check_statistics(problem, problem.scale, problem.bias, True, problem.residual)


@simulated
def test_cuda_winograd_statistics_of_slices_with_a_large_mean(quick, monkeypatch):
    problem = Problem((5, 4, 9, 11), 4, (1, 1))
    problem.bias += np.float32(1e4)
    monkeypatch.setattr(_winograd, "ROWS", 64)
    monkeypatch.setattr(_winograd, "SLICE", 64 * 64 * 8)
    assert len(list(_winograd._slices(150, 4, 4))) == 3
    check_statistics(problem, None, problem.bias)


@simulated
def test_cuda_winograd_statistics_reach_batch_norm(quick, cuda_kernels, monkeypatch):
    monkeypatch.setattr(_chooser, "winograd_pays", lambda *work: True)
    problem = Problem((2, 4, 7, 11), 8, (1, 1))
    y, sets = cuda_kernels.conv2d(problem.x, problem.weight, padding=(1, 1), statistics=True)
    assert sets[0].shape == (1, 8)
    assert np.array_equal(sets[0], np.full((1, 8), y.size // 8))
    given = np.ones(8, np.float32), problem.bias, None, None
    options = dict(momentum=0.1, eps=1e-5)
    for got, want in zip(cuda_kernels.batch_norm_train(y, *given, **options, statistics=sets),
                         reference.batch_norm_train(y.astype(np.float64), *given, **options)):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@simulated
@pytest.mark.parametrize("mean", [0, 20])
def test_cuda_winograd_is_as_exact_as_the_direct_sum(mean, quick):
    problem = Problem((1, 96, 6, 6), 64, (1, 1), mean=mean)
    exact, most = problem.exact(), problem.exact(np.abs)
    for got, want, sums in zip(problem.results(), exact, most):
        assert np.max(np.abs(got - want) / sums) <= WORST
    padded, direct = np.pad(problem.x, ((0, 0), (0, 0), (1, 1), (1, 1))), np.zeros((64, 6, 6), np.float32)
    for u, v, c in np.ndindex(3, 3, 96):  # one term after the other, as a thread adds them
        direct += problem.weight[:, c, u, v, None, None] * padded[0, c, u : u + 6, v : v + 6]
    assert error(problem.forward(), exact[0]) <= 1.5 * error(direct[None], exact[0])


@pytest.mark.parametrize("shape", WHOLE, ids=str)
def test_cuda_winograd_in_whole_operations(shape, cuda_kernels, monkeypatch):
    monkeypatch.setattr(_chooser, "winograd_pays", lambda *work: True)
    n, channels, filters, height, width = shape
    case = _case("winograd_in_whole", (n, channels, height, width), (filters, channels, 3, 3), padding=(1, 1),
                 infer=not SIMULATED)
    with _chooser.recording() as seen:
        excess = parity.compare(SUITE, case, cuda_kernels)
    assert max(excess.values()) <= 1
    assert {_chooser.choice(work, _arithmetic.capability())[0] for work in seen} == {"winograd"}


# ---------------------------------------------------------------- the choice
def rungs(images, channels, filters, size, *, taps=3, stride=1, dilation=1, groups=1, dtype=FLOAT32):
    count = conv_output_size(size, taps, stride, taps // 2, dilation)
    window = (forward_axis(count, taps, stride, taps // 2, dilation),) * 2
    return _chooser.strict_rungs(dtype, dtype, groups, (images, channels, size, size), filters, window)


def test_cuda_winograd_comes_first_where_it_should_pay():
    assert rungs(64, 208, 208, 56) == rungs(64, 256, 256, 14) == rungs(512, 512, 512, 4) == ("winograd", "ffma")
    assert rungs(64, 204, 204, 56) == rungs(64, 64, 64, 56) == ("ffma", "winograd")
    assert rungs(64, 256, 256, 1) == ("ffma", "winograd")  # three of four outputs of a tile would be cut off
    assert rungs(1, 512, 512, 7) == ("ffma", "winograd")  # the filters would cost more than the image


@pytest.mark.parametrize(("channels", "filters", "options"), [
    (254, 256, {}), (256, 254, {}), (256, 256, {"taps": 5}), (256, 256, {"stride": 2}), (256, 256, {"dilation": 2}),
    (512, 512, {"groups": 2}), (256, 256, {"dtype": np.dtype(np.float16)}),
])  # fmt: skip
def test_cuda_winograd_is_no_candidate_for_other_convolutions(channels, filters, options):
    assert rungs(64, channels, filters, 14, **options) == ("ffma",)
