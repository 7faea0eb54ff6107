"""Pooling: ties, infinities, NaN, windows that hang over the edge or miss the image."""

from __future__ import annotations

import math

import numpy as np

from ..shapes import pool_output_size
from ._suite import Case, Cost, Suite, Terms, normal, rms


def _distinct(rng, shape):
    """Values whose order no small step can change."""
    return rng.permutation(math.prod(shape)).reshape(shape) / max(1, math.prod(shape)) * 4 - 2


def _ties(rng, shape):
    return rng.integers(-1, 2, shape).astype(np.float64)


def _zeros_of_both_signs(rng, shape):
    return rng.choice([0.0, -0.0], shape)


def _minus_infinity(rng, shape):
    return np.where(rng.random(shape) < 0.8, -np.inf, normal(rng, shape))


def _missed(rng, shape):
    """Values of which no window sees one."""
    return normal(rng, shape)


def _not_finite(rng, shape):
    return np.where(
        rng.random(shape) < 0.05, rng.choice([np.nan, np.inf, -np.inf], shape), normal(rng, shape)
    )


def _nan(rng, shape):
    x = rng.choice([1.0, np.inf, -np.inf], shape)
    return np.where(rng.random(shape) < 0.2, np.nan, x)


def _pooled(x, kernel_size, stride, padding, dilation=(1, 1), ceil_mode=False):
    axes = zip(x[2:], kernel_size, stride, padding, dilation)
    return (*x[:2], *(pool_output_size(*axis, ceil_mode) for axis in axes))


def _max(name, x, kernel_size, stride, *, values=_distinct, padding=(0, 0), dilation=(1, 1), ceil_mode=False):
    def make(rng):
        window = {"kernel_size": kernel_size, "stride": stride, "padding": padding, "dilation": dilation}
        dy = normal(rng, _pooled(x, **window, ceil_mode=ceil_mode))
        return {"x": values(rng, x), "dy": dy, **window, "ceil_mode": ceil_mode}

    return Case(name, make, smooth=values is _distinct)


def _run_max(k, *, x, dy, ceil_mode, **window):
    y, indices = k.max_pool2d(x, **window, ceil_mode=ceil_mode)
    return {"y": y, "indices": indices, "dx": k.max_pool2d_backward(dy, indices, x.shape, **window)}


def _overlap(kernel_size, stride):
    """How many windows may meet in one pixel."""
    return math.prod(-(-k // s) for k, s in zip(kernel_size, stride))


def _cost_max(*, x, dy, kernel_size, **_):
    taps = math.prod(kernel_size)
    positions = dy.size if taps <= 256 else 4 * dy.size
    return {
        "max_pool2d": Cost(x.nbytes + dy.nbytes + positions, dy.size * taps),
        "max_pool2d_backward": Cost(x.nbytes + dy.nbytes + positions, dy.size),
    }


max_pool2d = Suite(
    cases=(
        _max("2x2", (2, 8, 6, 10), (2, 2), (2, 2)),
        _max("batch_1", (1, 3, 8, 8), (2, 2), (2, 2)),
        _max("empty_batch", (0, 3, 8, 8), (2, 2), (2, 2)),
        _max("one_channel", (2, 1, 9, 7), (3, 3), (2, 2), padding=(1, 1)),
        _max("17_channels", (2, 17, 9, 11), (3, 3), (2, 2), padding=(1, 1)),
        _max("33_channels", (3, 33, 5, 7), (2, 2), (2, 2)),
        _max("overlap", (2, 16, 8, 9), (3, 3), (1, 1), padding=(1, 1)),
        _max("gaps", (2, 5, 11, 13), (2, 2), (3, 4)),
        _max("not_square", (2, 6, 13, 8), (3, 2), (1, 3), padding=(1, 0)),
        _max("1x1", (2, 6, 4, 5), (1, 1), (1, 1)),
        _max("kernel_is_image", (3, 10, 5, 7), (5, 7), (5, 7)),
        _max("ceil", (2, 5, 8, 9), (3, 3), (2, 2), ceil_mode=True),
        _max("ceil_padded", (2, 5, 7, 6), (3, 3), (2, 2), padding=(1, 1), ceil_mode=True),
        _max("ceil_drops_last", (1, 2, 4, 5), (2, 2), (3, 3), padding=(1, 1), ceil_mode=True),
        _max("dilation", (2, 5, 12, 11), (3, 2), (2, 1), padding=(1, 1), dilation=(2, 3)),
        _max("dilation_ceil", (2, 17, 12, 11), (2, 3), (3, 2), dilation=(3, 2), ceil_mode=True),
        _max("missed", (2, 3, 1, 2), (2, 2), (1, 1), values=_missed, padding=(1, 1), dilation=(2, 3)),
        _max("256_taps", (1, 3, 17, 18), (16, 16), (1, 2)),
        _max("272_taps", (1, 3, 18, 17), (17, 16), (1, 1)),
        _max("ties", (2, 5, 9, 9), (3, 3), (2, 2), padding=(1, 1), values=_ties),
        _max("zeros", (1, 4, 6, 6), (2, 2), (2, 2), values=_zeros_of_both_signs),
        _max("minus_infinity", (2, 5, 9, 9), (3, 3), (2, 2), padding=(1, 1), values=_minus_infinity),
        _max("nan", (2, 17, 9, 9), (3, 3), (2, 2), padding=(1, 1), values=_nan),
    ),
    run=_run_max,
    terms=lambda *, dy, kernel_size, stride, **_: {"dx": Terms(_overlap(kernel_size, stride), rms(dy))},
    gradients=("x",),
    bench=(
        _max("3x3 / 2, 64 of 112²", (16, 64, 112, 112), (3, 3), (2, 2), padding=(1, 1), values=normal),
        _max("2x2 / 2, 64 of 56²", (32, 64, 56, 56), (2, 2), (2, 2), values=normal),
    ),
    cost=_cost_max,
)


def _avg(
    name,
    x,
    kernel_size,
    stride,
    *,
    values=normal,
    padding=(0, 0),
    ceil_mode=False,
    count_include_pad=True,
    divisor_override=None,
):
    def make(rng):
        return {
            "x": values(rng, x),
            "dy": normal(rng, _pooled(x, kernel_size, stride, padding, ceil_mode=ceil_mode)),
            "kernel_size": kernel_size,
            "stride": stride,
            "padding": padding,
            "ceil_mode": ceil_mode,
            "count_include_pad": count_include_pad,
            "divisor_override": divisor_override,
        }

    return Case(name, make, smooth=values is normal)


def _run_avg(k, *, x, dy, **window):
    return {"y": k.avg_pool2d(x, **window), "dx": k.avg_pool2d_backward(dy, x.shape, **window)}


def _terms_avg(*, x, dy, kernel_size, stride, divisor_override, **_):
    taps = math.prod(kernel_size)
    return {
        "y": Terms(taps, rms(x) / (divisor_override or taps)),
        "dx": Terms(_overlap(kernel_size, stride), rms(dy)),
    }


def _cost_avg(*, x, dy, kernel_size, **_):
    cost = Cost(x.nbytes + dy.nbytes, dy.size * math.prod(kernel_size))
    return {"avg_pool2d": cost, "avg_pool2d_backward": cost}


avg_pool2d = Suite(
    cases=(
        _avg("2x2", (2, 8, 6, 10), (2, 2), (2, 2)),
        _avg("batch_1", (1, 3, 8, 8), (2, 2), (2, 2)),
        _avg("empty_batch", (0, 3, 8, 8), (2, 2), (2, 2)),
        _avg("one_channel", (2, 1, 9, 7), (3, 3), (2, 2), padding=(1, 1)),
        _avg("17_channels", (2, 17, 9, 11), (3, 3), (2, 2), padding=(1, 1)),
        _avg("33_channels", (3, 33, 5, 7), (2, 2), (2, 2)),
        _avg("exclude_pad", (2, 17, 9, 11), (3, 3), (2, 2), padding=(1, 1), count_include_pad=False),
        _avg("overlap", (2, 16, 8, 9), (3, 3), (1, 1), padding=(1, 1)),
        _avg("gaps", (2, 5, 11, 13), (2, 2), (3, 4)),
        _avg("not_square", (2, 6, 13, 8), (3, 2), (1, 3), padding=(1, 0)),
        _avg("kernel_is_image", (3, 10, 5, 7), (5, 7), (5, 7)),
        _avg("ceil", (2, 5, 8, 9), (3, 3), (2, 2), ceil_mode=True),
        _avg("ceil_padded", (2, 5, 7, 6), (3, 3), (2, 2), padding=(1, 1), ceil_mode=True),
        _avg(
            "ceil_exclude_pad",
            (2, 5, 8, 6),
            (4, 3),
            (3, 2),
            padding=(2, 1),
            ceil_mode=True,
            count_include_pad=False,
        ),
        _avg("ceil_drops_last", (1, 2, 4, 5), (2, 2), (3, 3), padding=(1, 1), ceil_mode=True),
        _avg("divisor", (2, 5, 9, 7), (3, 3), (2, 2), padding=(1, 1), divisor_override=7),
        _avg("not_finite", (2, 17, 9, 9), (3, 3), (2, 2), values=_not_finite, padding=(1, 1)),
        _avg("divisor_ceil", (2, 5, 8, 7), (3, 2), (2, 2), ceil_mode=True, divisor_override=1),
    ),
    run=_run_avg,
    terms=_terms_avg,
    gradients=("x",),
    bench=(
        _avg("2x2 / 2, 64 of 56²", (32, 64, 56, 56), (2, 2), (2, 2)),
        _avg("3x3 / 2, 128 of 28²", (32, 128, 28, 28), (3, 3), (2, 2), padding=(1, 1)),
    ),
    cost=_cost_avg,
)


def _adaptive(name, x, output_size, *, values=normal):
    def make(rng):
        return {
            "x": values(rng, x),
            "dy": normal(rng, (*x[:2], *output_size)),
            "output_size": output_size,
        }

    return Case(name, make, smooth=values in (normal, _distinct))


def _run_adaptive_max(k, *, x, dy, output_size):
    y, indices = k.adaptive_max_pool2d(x, output_size=output_size)
    return {"y": y, "indices": indices, "dx": k.adaptive_max_pool2d_backward(dy, indices, x.shape)}


def _cost_adaptive_max(*, x, dy, **_):
    numbers = dy.size if math.prod(x.shape[2:]) <= 256 else 4 * dy.size
    return {
        "adaptive_max_pool2d": Cost(x.nbytes + dy.nbytes + numbers, x.size),
        "adaptive_max_pool2d_backward": Cost(x.nbytes + dy.nbytes + numbers, dy.size),
    }


adaptive_max_pool2d = Suite(
    cases=(
        _adaptive("global", (2, 8, 6, 10), (1, 1), values=_distinct),
        _adaptive("batch_1", (1, 3, 8, 8), (2, 2), values=_distinct),
        _adaptive("empty_batch", (0, 3, 8, 8), (1, 1), values=_distinct),
        _adaptive("17_channels", (2, 17, 7, 7), (1, 1), values=_distinct),
        _adaptive("64_channels", (2, 64, 9, 8), (4, 3), values=_distinct),
        _adaptive("overlapping_cells", (2, 5, 7, 11), (3, 5), values=_distinct),
        _adaptive("more_cells_than_pixels", (2, 5, 3, 2), (5, 7), values=_distinct),
        _adaptive("one_pixel", (2, 5, 1, 1), (3, 3), values=_distinct),
        _adaptive("256_pixels", (1, 3, 8, 32), (3, 3), values=_distinct),
        _adaptive("257_pixels", (1, 67, 1, 257), (1, 3), values=_distinct),
        _adaptive("ties", (2, 5, 9, 9), (4, 4), values=_ties),
        _adaptive("minus_infinity", (2, 5, 9, 9), (4, 4), values=_minus_infinity),
        _adaptive("nan", (2, 17, 9, 9), (4, 4), values=_nan),
    ),
    run=_run_adaptive_max,
    terms=lambda *, dy, **_: {"dx": Terms(4, rms(dy))},
    gradients=("x",),
    bench=(
        _adaptive("global, 512 of 7²", (32, 512, 7, 7), (1, 1)),
        _adaptive("to 7², 512 of 14²", (32, 512, 14, 14), (7, 7)),
    ),
    cost=_cost_adaptive_max,
)


def _run_adaptive(k, *, x, dy, output_size):
    return {
        "y": k.adaptive_avg_pool2d(x, output_size=output_size),
        "dx": k.adaptive_avg_pool2d_backward(dy, x.shape),
    }


def _cost_adaptive(*, x, dy, **_):
    cost = Cost(x.nbytes + dy.nbytes, x.size)
    return {"adaptive_avg_pool2d": cost, "adaptive_avg_pool2d_backward": cost}


adaptive_avg_pool2d = Suite(
    cases=(
        _adaptive("global", (2, 8, 6, 10), (1, 1)),
        _adaptive("batch_1", (1, 3, 8, 8), (2, 2)),
        _adaptive("empty_batch", (0, 3, 8, 8), (1, 1)),
        _adaptive("one_channel", (2, 1, 7, 9), (3, 2)),
        _adaptive("17_channels", (2, 17, 7, 7), (1, 1)),
        _adaptive("33_channels", (3, 33, 8, 8), (4, 4)),
        _adaptive("overlapping_cells", (2, 5, 7, 11), (3, 5)),
        _adaptive("more_cells_than_pixels", (2, 5, 3, 2), (5, 7)),
        _adaptive("same_size", (2, 5, 4, 6), (4, 6)),
        _adaptive("one_pixel", (2, 5, 1, 1), (3, 3)),
        _adaptive("large", (2, 3, 31, 37), (1, 1)),
        _adaptive("not_finite", (2, 17, 9, 9), (4, 4), values=_not_finite),
    ),
    run=_run_adaptive,
    terms=lambda *, x, dy, **_: {"y": Terms(1, rms(x)), "dx": Terms(4, rms(dy))},
    gradients=("x",),
    bench=(
        _adaptive("global, 512 of 7²", (32, 512, 7, 7), (1, 1)),
        _adaptive("to 7², 512 of 14²", (32, 512, 14, 14), (7, 7)),
    ),
    cost=_cost_adaptive,
)
