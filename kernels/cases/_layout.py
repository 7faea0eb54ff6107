"""The same values in different memory layouts.

- native: what nnk itself uses, channels-last for images, C order for weights and the rest.
- contiguous: C order.
- permuted: dense, in a random order of axes.
- strided: a random order of axes, some running backwards, with gaps between elements.

Every array lies in a buffer of its own with a margin around it. Margin and gaps are poison, bytes of 0xFF
(NaN in any float format, the largest or a negative integer), so that who reads there gets nonsense, and who
writes there can be caught.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import DTypeLike

LAYOUTS = ("native", "contiguous", "permuted", "strided")
MARGIN = 64


def blank(
    shape: tuple[int, ...], dtype: DTypeLike, layout: str, rng: np.random.Generator, image: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """An array full of poison, and the buffer in which it lies. Only an `image` is natively channels-last."""
    axes, steps = np.arange(len(shape)), np.ones(len(shape), int)
    if layout == "native" and image and len(shape) > 2:
        axes = np.r_[0, 2 : len(shape), 1]
    elif layout in ("permuted", "strided"):
        axes = rng.permutation(axes)
    if layout == "strided":
        steps = rng.integers(1, 3, len(shape)) * rng.choice([-1, 1], len(shape))
    strides, extent = np.ones(len(shape), int), 1
    for axis in reversed(axes):
        strides[axis] = extent * steps[axis]
        extent *= max(1, shape[axis]) * abs(steps[axis])
    return _carve(shape, strides, dtype)


def place(
    values: np.ndarray, dtype: DTypeLike, layout: str, rng: np.random.Generator, image: bool
) -> np.ndarray:
    """The values, rounded to dtype, in the given layout."""
    array, _ = blank(values.shape, dtype, layout, rng, image)
    array[...] = values
    return array


def replica(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A copy with the strides of x, and the poisoned buffer in which it lies."""
    array, buffer = _carve(x.shape, [stride // x.itemsize for stride in x.strides], x.dtype)
    array[...] = x
    return array, buffer


def _carve(shape, strides, dtype) -> tuple[np.ndarray, np.ndarray]:
    spans = [stride * max(0, n - 1) for stride, n in zip(strides, shape)]
    first = MARGIN - sum(min(0, span) for span in spans)
    last = MARGIN + sum(abs(span) for span in spans)
    buffer = np.frombuffer(b"\xff" * ((last + 1 + MARGIN) * np.dtype(dtype).itemsize), dtype).copy()
    return as_strided(buffer[first:], shape, [int(s) * buffer.itemsize for s in strides]), buffer


def poisoned(buffer: np.ndarray) -> bool:
    """Whether every byte is poison."""
    return bool((buffer.view(np.uint8) == 0xFF).all())


def poison(array: np.ndarray) -> None:
    """Fill the array with poison."""
    array[...] = np.frombuffer(b"\xff" * array.itemsize, array.dtype)[0]
