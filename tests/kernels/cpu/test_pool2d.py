"""Pooling: the tables of windows and positions, and what parity cannot see."""

import numpy as np
import pytest

from nnk.kernels import cpu, reference
from nnk.kernels.cpu import _stream, _windows, pool2d
from nnk.kernels.shapes import pool_output_size


def listed(table, n):
    """What a table lists for each of its n keys."""
    return [table[table[key] : table[key + 1]].reshape(-1, 2).tolist() for key in range(n)]


def transposed(by_window, size):
    """The same relation, by position."""
    by_position = [[] for _ in range(size)]
    for window, entries in enumerate(by_window):
        for position, label in entries:
            by_position[position].append([window, label])
    return by_position


@pytest.mark.parametrize("axis", [
    (10, 2, 2, 0, 1), (9, 3, 2, 1, 1), (7, 3, 1, 1, 1), (11, 2, 3, 0, 1), (12, 3, 2, 1, 2), (5, 2, 1, 1, 3),
    (1, 1, 1, 0, 1), (2, 2, 1, 1, 3),
], ids=str)
@pytest.mark.parametrize("ceil_mode", [False, True])
def test_sliding_windows_are_tabulated_both_ways(axis, ceil_mode):
    size, kernel, stride, padding, dilation = axis
    count = pool_output_size(*axis, ceil_mode)
    want = [
        [[at, tap] for tap in range(kernel) if 0 <= (at := p * stride - padding + tap * dilation) < size]
        for p in range(count)
    ]
    tables = _windows.taps(size, count, *axis[1:])
    assert listed(tables.by_window, count) == want
    assert listed(tables.by_position, size) == transposed(want, size)


@pytest.mark.parametrize(("size", "count"), [(6, 1), (6, 3), (7, 3), (11, 5), (3, 5), (1, 4), (5, 5)])
def test_adaptive_cells_are_tabulated_both_ways(size, count):
    spans = [range(p * size // count, -(-(p + 1) * size // count)) for p in range(count)]
    lengths = [[[at, len(span)] for at in span] for span in spans]
    places = [[[at, at] for at in span] for span in spans]
    for tables, want in ((_windows.cells(size, count), lengths), (_windows.places(size, count), places)):
        assert listed(tables.by_window, count) == want
        assert listed(tables.by_position, size) == transposed(want, size)


@pytest.mark.parametrize(("options", "lengths"), [
    ((True, None), [3, 3, 3, 2]), ((False, None), [2, 3, 3, 1]), ((True, 7), [7, 7, 7, 7]), ((False, 7), [7, 7, 7, 7]),
])
def test_a_mean_divides_by_its_window(options, lengths):
    """Padding counts if it is asked for, what hangs over the padded image does not; unless the divisor is given."""
    spans = [[0, 1], [1, 2, 3], [3, 4, 5], [5]]
    tables = _windows.means(6, 4, 3, 2, 1, *options)
    assert listed(tables.by_window, 4) == [[[at, n] for at in span] for span, n in zip(spans, lengths)]


@pytest.fixture(params=[37, 128])
def results(request):
    """Every result of the three pools on one large input of so many channels, as bytes."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((5, request.param, 33, 31)).astype(np.float32)
    window = {"kernel_size": (3, 2), "stride": (2, 2), "padding": (1, 1)}

    def compute():
        y, indices = cpu.max_pool2d(x, **window)
        dy = np.roll(y, 1, axis=0)
        return [array.tobytes() for array in (
            y, indices, cpu.max_pool2d_backward(dy, indices, x.shape, **window),
            cpu.avg_pool2d(x, **window), cpu.avg_pool2d_backward(dy, x.shape, **window),
            cpu.adaptive_avg_pool2d(x, output_size=(5, 7)), cpu.adaptive_avg_pool2d_backward(dy, x.shape))]
    return compute


@pytest.mark.parametrize("threads", [2, 3, 7])
def test_any_number_of_threads_gives_the_same_bits(threads, results, monkeypatch):
    monkeypatch.setattr(pool2d, "share", lambda work: 1)
    alone = results()
    monkeypatch.setattr(pool2d, "share", lambda work: threads)
    assert results() == alone


def test_past_the_caches_or_not_the_bits_are_the_same(results, monkeypatch):
    stored = results()
    monkeypatch.setattr(_stream, "_CACHE", 0)
    assert results() == stored


def test_the_mean_of_many_pixels_keeps_its_digits():
    x = np.random.default_rng(0).uniform(0, 1, (1, 3, 2, 70_001)).astype(np.float32)
    y = cpu.adaptive_avg_pool2d(x, output_size=(1, 1))
    want = x.astype(np.float64).mean(axis=(2, 3))
    assert np.abs(y[..., 0, 0] / want - 1).max() < 2e-6  # one running sum of float32 would lose 1e-4
    assert np.array_equal(y, cpu.avg_pool2d(x, kernel_size=(2, 70_001), stride=(1, 1)))


def test_gradients_add_up_to_what_came_in():
    """Every window has a winner, and a mean's shares are its whole: the sum of dx is that of dy."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 19, 12, 14)).astype(np.float32)
    window = {"kernel_size": (3, 3), "stride": (2, 2), "padding": (1, 1)}
    y, indices = cpu.max_pool2d(x, **window)
    dy = rng.integers(-8, 9, y.shape).astype(np.float32)
    assert cpu.max_pool2d_backward(dy, indices, x.shape, **window).sum() == dy.sum()
    dx = cpu.avg_pool2d_backward(dy, x.shape, **window, count_include_pad=False)
    assert dx.sum(dtype=np.float64) == pytest.approx(dy.sum(), abs=1e-3)


def test_indices_may_come_in_any_layout():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 17, 8, 8)).astype(np.float32)
    window = {"kernel_size": (2, 2), "stride": (2, 2)}
    y, indices = cpu.max_pool2d(x, **window)
    dy = rng.standard_normal(y.shape).astype(np.float32)
    want = reference.max_pool2d_backward(dy, indices, x.shape, **window)
    for order in ((0, 1, 2, 3), (3, 2, 1, 0), (0, 2, 3, 1)):
        moved = [np.ascontiguousarray(a.transpose(order)).transpose(np.argsort(order)) for a in (dy, indices)]
        assert np.array_equal(cpu.max_pool2d_backward(*moved, x.shape, **window), want)
