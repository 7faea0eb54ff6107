"""Activations that are linear in pieces, the logistic function, tanh."""

from __future__ import annotations

from ._pointwise import MORE_SHAPES, SHAPES, case, pointwise, saturating

relu = pointwise(
    "relu",
    saves="y",
    flops=(1, 1),
    shapes=SHAPES | MORE_SHAPES,
    more=(
        case("special_2d", (61, 9), hard=("x",)),
        case("special_dy", (3, 4, 11, 13), hard=("x", "dy")),
    ),
)

leaky_relu = pointwise(
    "leaky_relu",
    saves="x",
    flops=(2, 2),
    more=(
        case("special_dy", (3, 4, 11, 13), hard=("x", "dy"), negative_slope=0.01),
        case("slope_0", (2, 3, 5, 7), negative_slope=0.0),
        case("slope_negative", (2, 3, 5, 7), negative_slope=-0.5),
        case("slope_2", (17, 33), negative_slope=2.0),
    ),
    negative_slope=0.01,
)

relu6 = pointwise("relu6", saves="y", flops=(2, 2), kinks=(0, 6))

hardsigmoid = pointwise("hardsigmoid", saves="x", flops=(4, 2), kinks=(-3, 3))

hardswish = pointwise("hardswish", saves="x", flops=(5, 4), kinks=(-3, 3))

sigmoid = pointwise("sigmoid", saves="y", flops=(20, 3), terms=saturating, shapes=SHAPES | MORE_SHAPES)

tanh = pointwise("tanh", saves="y", flops=(20, 3), terms=saturating)
