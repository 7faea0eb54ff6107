"""Drawn shapes, windows and memory layouts: the CPU kernels against the reference."""

import math

import numpy as np
import pytest

pytest.importorskip("hypothesis")

from hypothesis import given, settings
from hypothesis import strategies as st

from nnk.kernels import cpu, parity
from nnk.kernels.cases._layout import LAYOUTS
from nnk.kernels.cases._suite import Case
from nnk.kernels.ops import OPS
from nnk.kernels.shapes import conv_output_size, pool_output_size

SUITES = {op.name: op.suite for op in OPS}
quick = settings(max_examples=60, deadline=None, derandomize=True, database=None)
layouts = st.sampled_from(LAYOUTS)
pairs = lambda low, high: st.tuples(st.integers(low, high), st.integers(low, high))  # noqa: E731
sizes = pairs(1, 13)
precisions = st.sampled_from(["highest", "high"])
channels = st.one_of(st.integers(1, 20), st.sampled_from([31, 32, 33, 48, 64, 65]))


def check(op, make, layout):
    case = Case(op, make)
    excess = parity.compare(SUITES[op], case, cpu, np.float32, layout)
    assert max(excess.values()) <= 1, excess


def normal(rng, *shape):
    return np.asarray(rng.standard_normal(shape))


@st.composite
def convolutions(draw):
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    per_group, filters = draw(channels), draw(channels)
    if draw(st.sampled_from([False, False, True])):
        groups, per_group, filters = per_group, 1, draw(st.integers(1, 2))
    kernel, dilation, stride = draw(pairs(1, 5)), draw(pairs(1, 3)), draw(pairs(1, 3))
    padding = draw(st.tuples(pairs(0, 3), pairs(0, 3)))
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel)]
    size = [max(s, r - sum(p)) for s, r, p in zip(draw(sizes), reach, padding)]
    x = (draw(st.integers(1, 3)), groups * per_group, *size)
    weight = (groups * filters, per_group, *kernel)
    window = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return convolution(x, weight, window, *draw(st.tuples(st.booleans(), st.booleans(), precisions)))


@st.composite
def convolutions_3x3(draw):
    """Those that Winograd's algorithm may take: stride 1, whole vectors of channels."""
    padding = draw(st.tuples(pairs(0, 2), pairs(0, 2)))
    size = [max(s, 3 - sum(p)) for s, p in zip(draw(pairs(1, 19)), padding)]
    whole = st.sampled_from([16, 32, 48])
    channels, filters = draw(whole), draw(whole)
    window = {"stride": (1, 1), "padding": padding, "dilation": (1, 1), "groups": 1}
    x, weight = (draw(st.integers(1, 3)), channels, *size), (filters, channels, 3, 3)
    return convolution(x, weight, window, *draw(st.tuples(st.booleans(), st.booleans(), precisions)))


def convolution(x, weight, window, bias, scale, precision):
    def make(rng):
        axes = zip(x[2:], weight[2:], window["stride"], window["padding"], window["dilation"])
        count = (conv_output_size(*axis) for axis in axes)
        return {
            "x": normal(rng, *x),
            "weight": normal(rng, *weight),
            "bias": normal(rng, weight[0]) if bias else None,
            "dy": normal(rng, x[0], weight[0], *count),
            "scale": normal(rng, weight[0]) if scale else None,
            "precision": precision,
            **window,
        }

    return make


@quick
@given(convolutions(), layouts)
def test_conv2d(make, layout):
    check("conv2d", make, layout)


@quick
@given(convolutions_3x3(), layouts)
def test_conv2d_3x3(make, layout):
    check("conv2d", make, layout)


@st.composite
def pools(draw):
    """The arguments that max and average pooling share, and a shape that they fit."""
    kernel, stride, ceil_mode = draw(pairs(1, 4)), draw(pairs(1, 4)), draw(st.booleans())
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    size = [max(s, k - 2 * p) for s, k, p in zip(draw(sizes), kernel, padding)]
    x = (draw(st.integers(1, 3)), draw(channels), *size)
    return x, {"kernel_size": kernel, "stride": stride, "padding": padding, "ceil_mode": ceil_mode}


def pooled(x, kernel_size, stride, padding, ceil_mode, dilation=(1, 1)):
    axes = zip(x[2:], kernel_size, stride, padding, dilation)
    return (*x[:2], *(pool_output_size(*axis, ceil_mode) for axis in axes))


@quick
@given(pools(), pairs(1, 3), st.booleans(), layouts)
def test_max_pool2d(pool, dilation, ties, layout):
    x, window = pool
    # Dilation widens the window: keep it where the window still fits.
    dilation = tuple(
        d if d * (k - 1) + 1 <= n + 2 * p else 1
        for d, k, n, p in zip(dilation, window["kernel_size"], x[2:], window["padding"])
    )

    def make(rng):
        values = rng.integers(-2, 3, x).astype(float) if ties else normal(rng, *x)
        dy = normal(rng, *pooled(x, **window, dilation=dilation))
        return {"x": values, "dy": dy, **window, "dilation": dilation}

    check("max_pool2d", make, layout)


@quick
@given(pools(), st.booleans(), st.sampled_from([None, None, 1, 5]), layouts)
def test_avg_pool2d(pool, count_include_pad, divisor, layout):
    x, window = pool
    options = {"count_include_pad": count_include_pad, "divisor_override": divisor}
    check(
        "avg_pool2d",
        lambda rng: {"x": normal(rng, *x), "dy": normal(rng, *pooled(x, **window)), **window, **options},
        layout,
    )


@quick
@given(st.integers(1, 3), channels, sizes, pairs(1, 9), layouts)
def test_adaptive_avg_pool2d(n, c, size, output_size, layout):
    check(
        "adaptive_avg_pool2d",
        lambda rng: {
            "x": normal(rng, n, c, *size),
            "dy": normal(rng, n, c, *output_size),
            "output_size": output_size,
        },
        layout,
    )


@quick
@given(st.integers(1, 3), channels, st.one_of(sizes, pairs(14, 19)), pairs(1, 9), st.booleans(), layouts)
def test_adaptive_max_pool2d(n, c, size, output_size, ties, layout):
    """Images on both sides of 256 pixels, from where on indices are wider."""
    x = (n, c, *size)
    check(
        "adaptive_max_pool2d",
        lambda rng: {
            "x": rng.integers(-2, 3, x).astype(float) if ties else normal(rng, *x),
            "dy": normal(rng, n, c, *output_size),
            "output_size": output_size,
        },
        layout,
    )


@st.composite
def normalisations(draw):
    """Two or more values per channel, around means from 0 to a thousand spreads away."""
    shape = draw(
        st.one_of(
            st.tuples(st.integers(2, 40), channels),
            st.tuples(st.integers(1, 4), channels, st.integers(1, 11), st.integers(2, 11)),
        )
    )
    distance = draw(st.sampled_from([0, 1, 30, 1000]))
    affine, running = draw(st.booleans()), draw(st.booleans())

    def make(rng):
        vector = lambda: normal(rng, shape[1])  # noqa: E731
        return {
            "x": normal(rng, *shape) + distance,
            "weight": vector() if affine else None,
            "bias": vector() if affine else None,
            "running_mean": vector() + distance if running else None,
            "running_var": np.exp(vector()) if running else None,
            "dy": normal(rng, *shape),
            "momentum": 0.1,
            "eps": 1e-5,
        }

    return make, running


@quick
@given(normalisations(), layouts)
def test_batch_norm(drawn, layout):
    make, running = drawn
    check("batch_norm_train", make, layout)
    if running:
        check("batch_norm_eval", make, layout)


@quick
@given(st.integers(0, 5), st.integers(1, 9), st.integers(1, 12), sizes, st.sampled_from([0, 1, 30, 1000]), layouts)
def test_group_norm(n, groups, per_group, size, distance, layout):
    shape = (n, groups * per_group, *size)

    def make(rng):
        return {
            "x": normal(rng, *shape) + distance,
            "weight": normal(rng, shape[1]),
            "bias": normal(rng, shape[1]),
            "dy": normal(rng, *shape),
            "num_groups": groups,
            "eps": 1e-5,
        }

    check("group_norm", make, layout)


@quick
@given(st.lists(st.integers(1, 9), max_size=3), st.lists(st.integers(1, 30), min_size=1, max_size=3), layouts)
def test_layer_norm(leading, normalised, layout):
    shape = (*leading, *normalised)

    def make(rng):
        return {
            "x": normal(rng, *shape) + normal(rng, *leading, *(1 for _ in normalised)),
            "weight": normal(rng, *normalised),
            "bias": normal(rng, *normalised),
            "dy": normal(rng, *shape),
            "normalized_shape": tuple(normalised),
            "eps": 1e-5,
        }

    check("layer_norm", make, layout)


@st.composite
def weighted(draw):
    """The shapes of an input and of two weights that broadcast to it: shorter, and with axes of length 1."""
    shape = draw(st.lists(st.sampled_from([1, 2, 3, 5, 17, 40]), max_size=4))

    def repeated():
        some = shape[draw(st.integers(0, len(shape))) :]
        return tuple(draw(st.sampled_from([1, n])) for n in some)

    return tuple(shape), repeated(), repeated()


@quick
@given(weighted(), st.sampled_from(["mean", "sum", "none"]), layouts)
def test_operands_that_broadcast(shapes, reduction, layout):
    shape, weight, pos_weight = shapes
    uniform = lambda rng, shape: np.asarray(rng.uniform(0.3, 2, shape))  # noqa: E731

    def inputs(rng):
        dy = normal(rng, *(shape if reduction == "none" else ()))
        return {"x": normal(rng, *shape), "dy": dy, "reduction": reduction}

    def logits(rng):
        parts = {"weight": uniform(rng, weight), "pos_weight": uniform(rng, pos_weight)}
        return inputs(rng) | {"target": uniform(rng, shape) / 2, **parts}

    check("binary_cross_entropy_with_logits", logits, layout)
    check("huber_loss", lambda rng: inputs(rng) | {"target": normal(rng, *weight), "delta": 1.0}, layout)
    check(
        "laplace_nll_loss",
        lambda rng: inputs(rng) | {"target": normal(rng, *weight), "scale": uniform(rng, pos_weight), "eps": 1e-6},
        layout,
    )


@quick
@given(st.lists(st.integers(0, 9), max_size=5), layouts, st.sampled_from(["relu", "sigmoid", "dropout"]))
def test_any_rank(shape, layout, op):
    options = {"p": 0.4, "seed": math.prod(shape), "call": 1} if op == "dropout" else {}
    check(op, lambda rng: {"x": normal(rng, *shape), "dy": normal(rng, *shape), **options}, layout)
