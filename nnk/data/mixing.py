"""Augmentations that mix two samples of a batch, their targets included."""

from __future__ import annotations

import numpy as np

from nnk import backend
from nnk.nn.arguments import integer

from .augment import Draws, Mixing, beside
from .photometry import boxes_around


class _Beta(Mixing):
    def __init__(self, *, alpha: float = 1.0, num_classes: int | None = None):
        if not 0 < alpha < np.inf:
            raise ValueError(f"alpha is {alpha!r}, expected a positive number")
        self.alpha = float(alpha)
        self.num_classes = None if num_classes is None else integer(num_classes, "num_classes", least=1)

    def draw(self, count: int, draws: Draws) -> tuple[np.ndarray, np.ndarray]:
        """Draw a partner and a share λ for each of ``count`` samples."""
        generator = draws.generator()
        return generator.permutation(count), generator.beta(self.alpha, self.alpha, count)

    def mix_targets(self, targets: np.ndarray, partners: np.ndarray, shares: np.ndarray) -> np.ndarray:
        """Return class probabilities (N, K), float32."""
        targets = _probabilities(targets, self.num_classes)
        partners, shares = beside(targets, partners, shares.astype(np.float32)[:, None])
        return shares * targets + (1 - shares) * targets[partners]


class MixUp(_Beta):
    """Blend each sample with another one of its batch, targets alike: ``y = λ x + (1 - λ) x'``, λ ~ Beta(α, α).

    Targets, labels (N,) or probabilities (N, K), become probabilities (N, K), which `CrossEntropyLoss` takes. Every
    sample has a λ of its own.

    Args:
        alpha: α; small values mix little, 1 is uniform.
        num_classes: K, needed for labels.

    Raises:
        ValueError: an alpha that is not positive; at the call, labels without ``num_classes`` or outside it.

    Source: Zhang et al. (2018), mixup: beyond empirical risk minimization, equation 1.
    """

    def __call__(self, images: np.ndarray, targets: np.ndarray, draws: Draws) -> tuple[np.ndarray, np.ndarray]:
        """Mix images (N, C, H, W) and targets."""
        partners, shares = self.draw(len(images), draws)
        mixed = backend.of(images).mix(images, *beside(images, partners, shares.astype(images.dtype)))
        return mixed, self.mix_targets(targets, partners, shares)


class CutMix(_Beta):
    """Paste a box of another sample into each one; targets are mixed by area.

    The box covers the share 1 - λ of the image, λ ~ Beta(α, α), with the image's proportions, around a random pixel.
    What of it lies outside is lost, and the targets count what is left. They are what they are in `MixUp`.

    Args:
        alpha: α, as for `MixUp`.
        num_classes: K, needed for labels.

    Raises:
        ValueError: as `MixUp`.

    Source: Yun et al. (2019), CutMix: regularization strategy to train strong classifiers, equations 1 and 2.
    """

    def __call__(self, images: np.ndarray, targets: np.ndarray, draws: Draws) -> tuple[np.ndarray, np.ndarray]:
        """Mix images (N, C, H, W) and targets."""
        height, width = images.shape[2:]
        partners, shares = self.draw(len(images), draws)
        sizes = np.sqrt(1 - shares)[:, None] * np.array([height, width])
        boxes = boxes_around(draws.uniform(0, 1, 2), sizes.astype(np.int64), images.shape)
        areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        mixed = backend.of(images).paste2d(images, *beside(images, boxes, partners))
        return mixed, self.mix_targets(targets, partners, 1 - areas / (height * width))


def _probabilities(targets: np.ndarray, num_classes: int | None) -> np.ndarray:
    if targets.ndim == 2 and targets.dtype.kind == "f":
        return targets.astype(np.float32, copy=False)
    if targets.ndim != 1 or targets.dtype.kind not in "iu":
        raise ValueError(
            f"targets have shape {targets.shape} and dtype {targets.dtype}, expected labels (N,) or probabilities "
            "(N, K)"
        )
    if num_classes is None:
        raise ValueError("num_classes is None, but the targets are labels")
    if targets.size and not backend.on_gpu(targets) and not 0 <= targets.min() <= targets.max() < num_classes:
        raise ValueError(f"targets are from {targets.min()} to {targets.max()}, expected 0 to {num_classes - 1}")
    return beside(targets, np.eye(num_classes, dtype=np.float32))[0][targets]
