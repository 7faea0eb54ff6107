"""What a data set is, and the one that holds its samples as arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from nnk.nn.arguments import integer


@runtime_checkable
class Dataset(Protocol):
    """Anything with a length and samples by index; a list of pairs is one.

    A data set may also have ``batch(indices) -> tuple of arrays``, which the loader then calls once per
    batch in place of ``dataset[i]`` for each sample.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


def channels_last(images: np.ndarray) -> np.ndarray:
    """Give (N, C, H, W) images the memory order N, H, W, C that the kernels work in; other ranks pass."""
    if images.ndim != 4:
        return images
    return np.ascontiguousarray(images.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


class ArrayDataset:
    """Samples held as arrays: sample i is ``(arrays[0][i], arrays[1][i], …)``.

    Args:
        *arrays: arrays of equal length along the first axis, as a rule images (N, C, H, W) and labels (N,).
        transform: called with a batch of the first array, (B, C, H, W), and returns what replaces it
            (`Normalize`, `Compose`, or any function of a batch).

    Raises:
        ValueError: no array, a 0-d array, or arrays of different lengths.
        TypeError, IndexError: at ``dataset[i]``, an i that is no int or out of range.
    """

    def __init__(self, *arrays: np.ndarray, transform: Callable[[np.ndarray], np.ndarray] | None = None):
        if not arrays:
            raise ValueError("arrays are none, expected at least one")
        self.arrays = tuple(np.asarray(array) for array in arrays)
        shapes = [array.shape for array in self.arrays]
        if any(not shape for shape in shapes) or len({shape[0] for shape in shapes}) != 1:
            raise ValueError(f"arrays have shapes {shapes}, expected the same length along the first axis")
        self.transform = transform

    def __len__(self) -> int:
        return len(self.arrays[0])

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        index = integer(index, "index")
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} is out of range for a data set of {len(self)} samples")
        return tuple(array[0] for array in self.batch([index]))

    def batch(self, indices: Sequence[int] | np.ndarray) -> tuple[np.ndarray, ...]:
        """Samples ``indices`` as one fresh array per field, images in channels-last memory."""
        first, *rest = (np.take(array, indices, axis=0) for array in self.arrays)
        # Reordered before the transform, while a pixel may still be a single byte.
        first = channels_last(first)
        if self.transform is not None:
            first = self.transform(first)
        return (first, *rest)

    def __repr__(self) -> str:
        arrays = ", ".join(f"{array.dtype} {array.shape}" for array in self.arrays)
        transform = "" if self.transform is None else f", transform={self.transform!r}"
        return f"ArrayDataset({arrays}{transform})"
