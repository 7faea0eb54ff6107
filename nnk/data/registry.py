"""Data sets and augmentations by name, as the command line asks for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from .augment import Augmentation, Step
from .cifar import cifar10, cifar100
from .datasets import ArrayDataset
from .digits import digits
from .folder import image_folder
from .geometry import RandomAffine, RandomCrop, RandomHorizontalFlip
from .mixing import CutMix, MixUp
from .mnist import fashion_mnist, mnist
from .photometry import ColorJitter, Cutout, GaussianBlur, GaussianNoise, PCAColorJitter

LOADERS = {"digits": digits}
DOWNLOADS = {"cifar10": cifar10, "cifar100": cifar100, "fashion_mnist": fashion_mnist, "mnist": mnist}
FOLDER = "folder"

Recipe = Callable[[np.ndarray, int], Augmentation]  # from the training images (N, C, H, W) and the number of classes
ON_PIXELS: dict[str, Recipe] = {  # before images are normalised, where 0 is black
    "affine": lambda images, classes: RandomAffine(15, (0.1, 0.1), (0.9, 1.1)),
    "blur": lambda images, classes: GaussianBlur(3, (0.1, 1.0)),
    "color": lambda images, classes: ColorJitter(0.2, 0.2),
    "crop": lambda images, classes: RandomCrop(images.shape[2:], padding=max(1, images.shape[2] // 8)),
    "flip": lambda images, classes: RandomHorizontalFlip(),
    "pca": lambda images, classes: PCAColorJitter.fit(images),
}
ON_NORMALIZED: dict[str, Recipe] = {  # afterwards, where 0 is the mean and 1 the deviation
    "cutmix": lambda images, classes: CutMix(num_classes=classes),
    "cutout": lambda images, classes: Cutout(max(1, images.shape[2] // 2)),
    "mixup": lambda images, classes: MixUp(alpha=0.2, num_classes=classes),
    "noise": lambda images, classes: GaussianNoise(0.1),
}


def names() -> list[str]:
    """Names that `load` knows."""
    return sorted([*LOADERS, *DOWNLOADS, FOLDER])


def load(name: str, root: str | Path = "data", size: int | None = None) -> tuple[ArrayDataset, ArrayDataset]:
    """Load the data set called ``name`` as ``(train, test)``; what must be downloaded is kept in ``root / name``.

    "folder" is the folder of images ``root`` itself (`image_folder`), brought to ``size``.

    Raises:
        ValueError: an unknown name, or a size with another data set than a folder.
        ModuleNotFoundError: the data set needs a package that is not installed.
        DataError: a file cannot be downloaded, or is damaged, or a folder does not hold images of several classes.
    """
    if name == FOLDER:
        return image_folder(root, size)
    if size is not None:
        raise ValueError(f"size is {size}, which goes with data {FOLDER!r} alone")
    if name in LOADERS:
        return LOADERS[name]()
    if name in DOWNLOADS:
        return DOWNLOADS[name](Path(root) / name)
    raise ValueError(f"unknown data {name!r}, known are: {', '.join(names())}")


def augmentation_names() -> list[str]:
    """Names that `augmentations` knows."""
    return sorted(ON_PIXELS.keys() | ON_NORMALIZED.keys())


def augmentations(chosen: Sequence[str], train: ArrayDataset) -> list[Step]:
    """Return the augmentations of these names as steps for the loader of the bare arrays of ``train``.

    They come in the order of the names, but the transform of ``train`` stands between those that work on pixels and
    those that work on normalised images. Sizes follow those of the images.

    Raises:
        ValueError: an unknown name.
    """
    unknown = [name for name in chosen if name not in augmentation_names()]
    if unknown:
        raise ValueError(f"unknown augmentation {unknown[0]!r}, known are: {', '.join(augmentation_names())}")
    images, labels = train.arrays
    classes = int(labels.max()) + 1
    before, after = (
        [recipes[name](images, classes) for name in chosen if name in recipes] for recipes in (ON_PIXELS, ON_NORMALIZED)
    )
    return [*before, *([] if train.transform is None else [train.transform]), *after]
