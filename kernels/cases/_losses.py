"""What the cases of elementwise losses have in common: shapes, reductions, operands that repeat themselves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ._suite import Case, Cost, Inputs, Terms, normal

Draw = Callable[..., Inputs]  # draw(rng, *shapes): the operands, each of its own shape


def case(name: str, draw: Draw, *shapes: tuple[int, ...], reduction: str = "mean", smooth: bool = True, **options):
    """Operands of these shapes, the last one standing for all others, and a gradient of the loss's shape."""

    def make(rng):
        full = np.broadcast_shapes(*shapes)
        dy = normal(rng, full if reduction == "none" else ())
        return {**draw(rng, *shapes), "dy": dy, "reduction": reduction, **options}

    return Case(name, make, smooth)


def shapes(draw: Draw, **options) -> tuple[Case, ...]:
    """One shape for all operands: every rank, every reduction, several blocks, none."""
    return (
        case("4d", draw, (2, 3, 5, 7), **options),
        case("none", draw, (2, 3, 5, 7), reduction="none", **options),
        case("sum", draw, (17, 33), reduction="sum", **options),
        case("0d", draw, (), **options),
        case("1d", draw, (7,), reduction="none", **options),
        case("3d", draw, (2, 9, 5), **options),
        case("empty", draw, (0, 4), smooth=False, **options),
        case("empty_none", draw, (0, 4), reduction="none", **options),
        case("blocks", draw, (3, 11, 31, 11), **options),
        case("blocks_none", draw, (3, 11, 31, 11), reduction="none", **options),
    )


def bench(draw: Draw, **options) -> tuple[Case, ...]:
    """A batch of regression targets, and images."""
    return (
        case("128 × 10", draw, (128, 10), **options),
        case("16 of 3 × 224²", draw, (16, 3, 224, 224), **options),
    )


def cost(name: str, forward: int, backward: int, operands: int, gradients: int = 1):
    """So many operations an element; a forward reads the operands, a backward writes gradients too. Means of both."""
    return lambda *, dy, **inputs: {
        name: Cost(operands * _bytes(inputs), forward * _bytes(inputs) // 4),
        f"{name}_backward": Cost((operands + gradients) * _bytes(inputs), backward * _bytes(inputs) // 4),
    }


def _bytes(inputs):
    return max(value.nbytes for value in inputs.values() if isinstance(value, np.ndarray))


def reduced(losses: np.ndarray, reduction: str, batch: int = 1) -> Terms:
    """The terms of a loss whose elements are made of terms of the size of `losses`."""
    if reduction == "none":
        return Terms(2, losses)
    total = Terms(losses.size, np.mean(losses) if losses.size else 0.0)
    count = {"sum": 1, "mean": losses.size, "batchmean": batch}[reduction]
    return Terms(total.count, total.size / max(1, count))


def chained(dy: np.ndarray, slope: np.ndarray, shape: tuple[int, ...], reduction: str, batch: int = 1) -> Terms:
    """The terms of a gradient whose slopes are made of terms of the size of `slope`."""
    count = {"none": 1, "sum": 1, "mean": slope.size, "batchmean": batch}[reduction]
    size = np.abs(dy) * slope / max(1, count)
    if size.shape == shape:
        return Terms(2, size)
    return Terms(2 + size.size, float(np.mean(size)) if size.size else 0.0)
