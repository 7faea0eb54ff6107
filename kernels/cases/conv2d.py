"""Convolutions: odd sizes, strides, paddings, dilations, groups."""

from __future__ import annotations

import math

import numpy as np

from ..reference.batchnorm import batch_norm_train
from ..reference.conv2d import conv2d as conv2d_reference
from ..shapes import conv_output_size
from ._suite import Case, Cost, Suite, Terms, normal, rms


def _case(
    name,
    x,
    weight,
    *,
    stride=(1, 1),
    padding=(0, 0),
    dilation=(1, 1),
    groups=1,
    bias=True,
    precision="highest",
    infer=False,
    sum=False,
    norm=False,
    level=0.0,
):
    """What else the forward pass runs with: `infer`, scales and a ReLU, as in inference; `sum`, a residual and a ReLU;
    `norm`, a batch norm by the statistics that it gives, its bias being `level` and more.
    """

    def make(rng):
        y = (x[0], weight[0], *map(conv_output_size, x[2:], weight[2:], stride, padding, dilation))
        return {
            "x": normal(rng, x),
            "weight": normal(rng, weight),
            "bias": level + normal(rng, weight[0]) if bias else None,
            "dy": normal(rng, y),
            "scale": normal(rng, weight[0]) if infer else None,
            "residual": normal(rng, y) if sum else None,
            "eps": 1e-5 if norm else None,
            "stride": stride,
            "padding": padding,
            "dilation": dilation,
            "groups": groups,
            "precision": precision,
        }

    return Case(name, make)


def _winograd(precision):
    """Shapes that may run by Winograd's algorithm: 3 x 3, stride 1, whole vectors of channels, 32 tiles of 4 x 4."""

    def case(name, x, filters, *, padding=(1, 1), **others):
        return _case(f"{name}_{precision}", x, (filters, x[1], 3, 3), padding=padding, precision=precision, **others)

    return (
        case("winograd", (8, 16, 8, 8), 32),
        case("winograd_odd_map", (6, 48, 7, 9), 64, infer=True, sum=True, norm=True),
        case("winograd_batch_1", (1, 64, 23, 21), 32, bias=False, infer=True),
        case("winograd_empty_batch", (0, 16, 8, 8), 32),
        case("winograd_unpadded", (32, 32, 6, 5), 48, padding=(0, 0)),
        case("winograd_asymmetric", (8, 32, 5, 6), 32, padding=((0, 2), (1, 0))),
        case("winograd_pad_over_kernel", (33, 32, 3, 4), 32, padding=(3, 4)),
        case("winograd_one_pixel", (33, 32, 1, 1), 32),
        case("winograd_many_tiles", (2, 32, 41, 37), 16, infer=True),
    )


def _run(k, *, x, weight, bias, dy, scale=None, residual=None, eps=None, **window):
    results = {
        "y": k.conv2d(x, weight, bias, **window),
        "dx": k.conv2d_dgrad(dy, weight, x.shape, **window),
        "dweight": k.conv2d_wgrad(dy, x, weight.shape, **window),
        "dbias": k.conv2d_bgrad(dy),
    }
    if scale is not None:
        results["inferred"] = k.conv2d(x, weight, bias, scale=scale, activation="relu", **window)
    if residual is not None:
        results["sum"] = k.conv2d(x, weight, bias, residual=residual, **window)
        results["rectified_sum"] = k.conv2d(
            x, weight, bias, scale=scale, activation="relu", residual=residual, **window
        )
    if eps is not None:
        y, statistics = k.conv2d(x, weight, bias, statistics=True, **window)
        options = {"momentum": 0.0, "eps": eps, "statistics": statistics}
        norm = k.batch_norm_train(y, None, None, None, None, **options)
        results |= zip(("normalised", "mean", "invstd"), norm)
        results["activated"] = k.batch_norm_relu_train(y, None, None, None, None, residual, **options)[0]
    return results


def _terms(*, x, weight, bias, dy, scale=None, residual=None, eps=None, precision, **window):
    """Winograd's algorithm, where it may run, sums the products of a tile instead of a window's terms: the 16 of
    F(2 x 2) are no larger than those; below "highest", the 36 of F(4 x 4) may be ten times as large.
    """
    pixels, taps, groups = dy.size // dy.shape[1], math.prod(weight.shape[2:]), window["groups"]
    growth, more = 1, 0
    if (*weight.shape[2:], *window["stride"], *window["dilation"], groups) == (3, 3, 1, 1, 1, 1, 1):
        growth, more = (1, 16) if precision == "highest" else (10, 36)
    largest = 0 if scale is None else np.abs(scale).max(initial=0)

    def products(count, size, wide=False):
        return Terms(count + more, growth * size, precision, wide)

    size = max(rms(x) * rms(weight), rms(bias))
    terms = {
        "y": products(weight[0].size + 1, size),
        "inferred": products(weight[0].size + 1, max(largest * rms(x) * rms(weight), rms(bias))),
        "sum": products(weight[0].size + 2, max(size, rms(residual))),
        "rectified_sum": products(weight[0].size + 2, max(largest, 1) * max(size, rms(residual))),
        "dx": products(len(weight) // groups * taps, rms(dy) * rms(weight)),
        "dweight": products(pixels, rms(dy) * rms(x), wide=True),
        "dbias": Terms(pixels, rms(dy), wide=True),
    }
    if eps is not None and pixels:
        # An error of y's size moves the mean by as much and the spread by twice that.
        normalised, _, s = batch_norm_train(
            conv2d_reference(x, weight, bias, **window), None, None, None, None, momentum=0.0, eps=eps
        )
        column = s[:, None, None]
        shifted = column * size * (2 + 2 * np.abs(normalised))
        terms |= {
            "normalised": products(weight[0].size + 1, shifted),
            "activated": products(weight[0].size + 1, shifted + (0 if residual is None else np.abs(residual))),
            "mean": products(weight[0].size + 1, size),
            "invstd": products(weight[0].size + 1, 2 * s**2 * size),
        }
    return terms


def _cost(*, x, weight, bias, dy, **_):
    flops = 2 * dy.size * weight[0].size
    product = Cost(x.nbytes + weight.nbytes + dy.nbytes, flops)
    return {
        "conv2d": product,
        "conv2d_dgrad": product,
        "conv2d_wgrad": product,
        "conv2d_bgrad": Cost(dy.nbytes, dy.size),
    }


conv2d = Suite(
    cases=(
        _case("plain", (2, 8, 9, 11), (16, 8, 3, 3), padding=(1, 1)),
        _case("no_bias", (2, 8, 9, 11), (16, 8, 3, 3), bias=False),
        _case("batch_1", (1, 3, 8, 8), (5, 3, 3, 3)),
        _case("empty_batch", (0, 3, 8, 8), (5, 3, 3, 3)),
        _case("one_channel", (2, 1, 12, 10), (7, 1, 3, 3), padding=(1, 1), infer=True),
        _case("one_filter", (2, 6, 7, 5), (1, 6, 3, 3)),
        _case("one_of_everything", (1, 1, 1, 1), (1, 1, 1, 1)),
        _case("17_to_33", (2, 17, 7, 7), (33, 17, 3, 3), padding=(1, 1), infer=True),
        _case("16_to_32", (3, 16, 8, 8), (32, 16, 3, 3), padding=(1, 1)),
        _case("primes", (1, 13, 17, 19), (11, 13, 3, 3), padding=(1, 1)),
        _case("deep_and_small", (2, 64, 4, 4), (65, 64, 3, 3), padding=(1, 1)),
        _case("many_pixels", (7, 3, 29, 31), (8, 3, 3, 3), padding=(1, 1), infer=True),
        _case("stride_2", (2, 16, 15, 13), (24, 16, 3, 3), stride=(2, 2), padding=(1, 1)),
        _case("stride_2_even", (2, 5, 12, 14), (9, 5, 3, 3), stride=(2, 2), padding=(1, 1)),
        _case("stride_3_2", (2, 5, 14, 11), (4, 5, 3, 3), stride=(3, 2)),
        _case("stride_over_kernel", (2, 3, 11, 13), (4, 3, 2, 2), stride=(3, 4)),
        _case("pad_asymmetric", (2, 4, 7, 6), (6, 4, 4, 2), padding=((1, 2), (0, 1))),
        _case("pad_one_side", (2, 4, 7, 6), (6, 4, 3, 3), stride=(2, 2), padding=((0, 3), (2, 0))),
        _case("pad_over_kernel", (1, 2, 5, 4), (3, 2, 2, 3), padding=(4, 5)),
        _case("pad_strided_away", (1, 2, 3, 3), (3, 2, 2, 2), stride=(4, 4), padding=(5, 5)),
        _case("dilation", (2, 5, 13, 12), (6, 5, 3, 3), padding=(2, 1), dilation=(2, 3)),
        _case(
            "dilation_stride", (2, 17, 13, 14), (9, 17, 3, 2), stride=(2, 3), padding=(2, 2), dilation=(3, 2)
        ),
        _case("groups_2", (2, 34, 6, 7), (6, 17, 3, 3), padding=(1, 1), groups=2, infer=True),
        _case("groups_3", (2, 9, 7, 6), (12, 3, 3, 3), stride=(2, 1), groups=3),
        _case("groups_of_16", (2, 64, 6, 5), (32, 16, 3, 3), padding=(1, 1), groups=4),
        _case("groups_1x1", (2, 12, 5, 4), (8, 3, 1, 1), groups=4),
        _case("depthwise", (2, 19, 9, 8), (19, 1, 3, 3), padding=(1, 1), groups=19, infer=True),
        _case("depthwise_stride_2", (1, 33, 11, 9), (33, 1, 3, 3), stride=(2, 2), padding=(1, 1), groups=33),
        _case(
            "depthwise_multiplier",
            (2, 7, 9, 8),
            (21, 1, 3, 3),
            stride=(2, 2),
            padding=(1, 1),
            groups=7,
            infer=True,
        ),
        _case("depthwise_stride_2_even", (2, 32, 8, 6), (32, 1, 3, 3), stride=(2, 2), padding=(0, 2), groups=32),
        _case("depthwise_rows", (2, 130, 21, 9), (130, 1, 3, 3), padding=(1, 1), groups=130),
        _case("depthwise_5x5", (1, 24, 9, 10), (24, 1, 5, 5), padding=(2, 2), groups=24, infer=True),
        _case("depthwise_5x5_stride_2", (1, 40, 9, 8), (40, 1, 5, 5), stride=(2, 2), padding=(2, 2), groups=40),
        _case("depthwise_7x7", (1, 16, 8, 11), (16, 1, 7, 7), padding=(3, 3), groups=16),
        _case(
            "depthwise_dilated_5x5",
            (1, 17, 12, 11),
            (17, 1, 5, 5),
            padding=(4, 4),
            dilation=(2, 2),
            groups=17,
        ),
        _case("1x1", (2, 33, 6, 5), (17, 33, 1, 1)),
        _case("1x1_stride_2", (2, 17, 7, 6), (34, 17, 1, 1), stride=(2, 2), infer=True),
        _case("1x1_padded", (2, 3, 5, 4), (6, 3, 1, 1), padding=(1, 2)),
        _case("1x1_image", (3, 10, 1, 1), (4, 10, 1, 1)),
        _case("3x3_on_1x1_image", (3, 10, 1, 1), (4, 10, 3, 3), padding=(1, 1)),
        _case("5x5", (2, 3, 13, 12), (6, 3, 5, 5), padding=(2, 2)),
        _case("7x7_stride_2", (1, 3, 37, 35), (17, 3, 7, 7), stride=(2, 2), padding=(3, 3), infer=True),
        _case("sum", (2, 6, 5, 7), (9, 6, 3, 3), padding=(1, 1), infer=True, sum=True, norm=True),
        _case("sum_groups", (2, 8, 7, 5), (6, 4, 3, 3), stride=(2, 2), groups=2, sum=True, norm=True),
        _case("sum_depthwise", (2, 8, 6, 5), (8, 1, 3, 3), padding=(1, 1), groups=8, sum=True, norm=True),
        _case("sum_empty_batch", (0, 3, 8, 8), (5, 3, 3, 3), infer=True, sum=True, norm=True),
        _case("sum_few_channels", (3, 3, 13, 11), (10, 3, 3, 3), padding=(1, 1), sum=True, norm=True),
        _case("sum_1x1", (2, 33, 5, 3), (18, 33, 1, 1), bias=False, sum=True, norm=True),
        _case("norm_large_mean", (3, 8, 9, 7), (12, 8, 1, 1), norm=True, level=1e4),
        _case("sum_high", (2, 12, 9, 9), (20, 12, 3, 3), padding=(1, 1), precision="high", sum=True, norm=True),
        _case("kernel_is_image", (3, 5, 6, 7), (9, 5, 6, 7)),
        _case("1x7", (2, 6, 4, 15), (5, 6, 1, 7), padding=(0, 3)),
        _case("7x1", (2, 6, 15, 4), (5, 6, 7, 1), padding=(3, 0)),
        _case("one_row", (2, 3, 1, 37), (4, 3, 1, 3), padding=(0, 1)),
        _case("5_to_9_high", (1, 5, 7, 6), (9, 5, 3, 3), padding=(1, 1), precision="high", infer=True),
        _case("5_to_9_medium", (1, 5, 7, 6), (9, 5, 3, 3), padding=(1, 1), precision="medium"),
        _case("stride_2_3_high", (2, 9, 8, 7), (6, 9, 3, 2), stride=(2, 3), padding=(1, 2), precision="high"),
        _case("dilation_high", (1, 6, 9, 8), (4, 6, 3, 3), padding=(2, 1), dilation=(2, 3), precision="high"),
        _case("groups_high", (2, 34, 4, 3), (6, 17, 3, 3), padding=(1, 1), groups=2, precision="high"),
        _case("one_channel_high", (1, 1, 9, 10), (1, 1, 3, 3), padding=(1, 1), precision="high"),
        _case("many_filters_high", (1, 8, 7, 9), (68, 8, 1, 1), precision="high"),
        _case("tall_kernel_high", (1, 3, 19, 6), (4, 3, 17, 3), padding=(1, 1), precision="high"),
        _case("17_to_33_high", (2, 17, 7, 7), (33, 17, 3, 3), padding=(1, 1), precision="high"),
        _case("stride_2_high", (2, 16, 9, 11), (32, 16, 3, 3), stride=(2, 2), precision="high"),
        _case("16_to_32_medium", (2, 16, 9, 11), (32, 16, 3, 3), padding=(1, 1), precision="medium"),
        *_winograd("highest"),
        *_winograd("high"),
    ),
    run=_run,
    terms=_terms,
    gradients=("x", "weight", "bias"),
    bench=(
        _case(
            "3x3, 64 of 56²", (32, 64, 56, 56), (64, 64, 3, 3), padding=(1, 1), bias=False, precision="high"
        ),
        _case(
            "3x3, 256 of 14²",
            (32, 256, 14, 14),
            (256, 256, 3, 3),
            padding=(1, 1),
            bias=False,
            precision="high",
        ),
        _case("1x1, 256 to 64 of 56²", (16, 256, 56, 56), (64, 256, 1, 1), bias=False),
        _case(
            "depthwise, 128 of 56²", (32, 128, 56, 56), (128, 1, 3, 3), padding=(1, 1), groups=128, bias=False
        ),
    ),
    cost=_cost,
)
