"""What augmentations are, and how a list of them changes a batch.

An augmentation draws its random numbers for (seed, epoch, sample): every epoch shows a sample in a new way, and a run
that is resumed, or repeated with other threads, shows it in the same way again. `geometry`, `photometry` and `mixing`
hold the augmentations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnk import backend
from nnk.nn.arguments import number

FIRST_COUNTER = 2**31  # of the few numbers per sample; noise for each pixel counts from 0


@dataclass(frozen=True)
class Draws:
    """The random numbers of one augmentation for one batch.

    Those of sample i are a function of (seed, epoch, stream, samples[i]) alone, by Philox-4x32-10.

    Args:
        seed: of the loader, 64 bits.
        epoch: 32 bits.
        samples: (N,) the samples' indices in the data set, 32 bits each.
        stream: the place of the augmentation in its list.
    """

    seed: int
    epoch: int
    samples: np.ndarray
    stream: int

    def words(self, count: int) -> np.ndarray:
        """Return at least ``count`` random words for each sample in fours, uint32 (N, ⌈count / 4⌉, 4)."""
        blocks = -(-count // 4)
        counter = np.empty((len(self.samples), blocks, 4), np.uint32)
        counter[..., 0] = FIRST_COUNTER + np.arange(blocks)
        counter[..., 1] = self.stream
        counter[..., 2] = self.samples[:, None]
        counter[..., 3] = self.epoch
        philox = backend.kernels("reference._philox")
        return philox.philox(counter, philox.halves(self.seed))

    def uniform(self, low: float | np.ndarray, high: float | np.ndarray, count: int = 1) -> np.ndarray:
        """Return numbers from [low, high), float64 (N, count)."""
        return low + (high - low) * (self._flat(self.words(count), count) * 2.0**-32)

    def integers(self, counts: int | np.ndarray, count: int = 1) -> np.ndarray:
        """Return ints from 0 to counts - 1, int64 (N, count)."""
        return self._flat(self.words(count), count).astype(np.int64) * counts >> 32

    def normal(self, count: int) -> np.ndarray:
        """Return standard normal numbers, float64 (N, count)."""
        return self._flat(backend.kernels("reference._philox").normals(self.words(count)), count)

    @staticmethod
    def _flat(fours: np.ndarray, count: int) -> np.ndarray:
        return fours.reshape(len(fours), fours.shape[1] * 4)[:, :count]

    def generator(self) -> np.random.Generator:
        """Return a generator for what concerns the samples of the batch together, such as who is mixed with whom."""
        return np.random.default_rng([self.seed, self.epoch, self.stream, *self.samples.tolist()])


class Augmentation:
    """A random change of each image: ``augmentation(images, draws)`` returns new images (N, C', H', W'), float32."""

    def __call__(self, images: np.ndarray, draws: Draws) -> np.ndarray:
        """Change the images (N, C, H, W), float32; raise ValueError where they do not fit."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"


class Mixing(Augmentation):
    """A random mixture of samples, which changes targets too: ``mixing(images, targets, draws)`` returns both."""

    def __call__(self, images: np.ndarray, targets: np.ndarray, draws: Draws) -> tuple[np.ndarray, np.ndarray]:
        """Mix images (N, C, H, W) and targets, labels (N,) or class probabilities (N, K)."""
        raise NotImplementedError


Step = Augmentation | Callable[[np.ndarray], np.ndarray]


def augment(
    batch: tuple[np.ndarray, ...], steps: Sequence[Step], seed: int, epoch: int, samples: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Apply the steps to a batch (images, targets, …) whose samples have these indices, one after the other.

    A step is an `Augmentation` or any function of a batch of images, such as `Normalize`. Images become float32 first.

    Raises:
        ValueError: images are not (N, C, H, W), or there are no targets for a `Mixing`.
    """
    if not steps:
        return batch
    images, *rest = batch
    if images.ndim != 4:
        raise ValueError(f"images have shape {images.shape}, expected (N, C, H, W) to augment")
    images = images.astype(np.float32, copy=False)
    for stream, step in enumerate(steps):
        draws = Draws(seed, epoch, np.asarray(samples), stream)
        if isinstance(step, Mixing):
            if not rest:
                raise ValueError(f"{step!r} mixes targets too, but the data set has images alone")
            images, rest[0] = step(images, rest[0], draws)
        elif isinstance(step, Augmentation):
            images = step(images, draws)
        else:
            images = step(images)
    return (images, *rest)


def beside(images: Any, *arrays: np.ndarray) -> tuple[Any, ...]:
    """Return arrays, drawn on the host, on the device where the images are."""
    device = backend.device_of(images)
    return tuple(backend.asarray_on(array, device) for array in arrays)


def describe(step: Step) -> str:
    """Return what tells this step from another, the same in every process."""
    if isinstance(step, Augmentation):
        return repr(step)
    return getattr(step, "__qualname__", type(step).__qualname__)


# ---------------------------------------------------------------- arguments
def interval(value: Any, name: str, around: float | None = None, least: float = -np.inf) -> tuple[float, float]:
    """Return (low, high) from a pair, or from a number: (around - number, around + number), or number twice.

    Raises TypeError on what is no number, ValueError unless least <= low <= high and both are finite.
    """
    for end in value if isinstance(value, (tuple, list)) else (value,):
        number(end, name)
    if isinstance(value, (tuple, list)):
        ends = tuple(value)
    elif around is None:
        ends = (value, value)
    else:
        ends = (max(around - value, least), around + value)
    if len(ends) != 2 or not all(np.isfinite(ends)) or not least <= ends[0] <= ends[1]:
        bound = "" if least == -np.inf else f" of at least {least:g}"
        raise ValueError(f"{name} is {value!r}, expected a number or (low, high){bound}")
    return float(ends[0]), float(ends[1])


def probability(value: float, name: str = "p") -> float:
    """Return the value; raise ValueError unless it is from 0 to 1."""
    if not 0 <= number(value, name) <= 1:
        raise ValueError(f"{name} is {value!r}, expected 0 <= {name} <= 1")
    return float(value)
