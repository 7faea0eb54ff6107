"""Images in folders, one per class."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from nnk.nn.arguments import Pair, pair

from .datasets import ArrayDataset
from .download import DataError
from .split import TEST_EVERY, stratified
from .transforms import Normalize

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}


class ImageFolder:
    """The images in ``root/<class>/…``, sub-folders included, decoded on all cores when they are asked for.

    Classes are the folders' names in alphabetical order, a sample is ``(image, label)``, uint8 (C, H, W) and an int.
    Needs Pillow: ``python -m pip install 'nnk[images]'``.

    Args:
        root: the folder.
        size: bring every image to this height and width: scaled, with its proportions, until it covers them, then
            cut evenly on both sides. None keeps the sizes, which must then be equal within a batch.
        mode: "RGB" or "L", three channels or one.
        transform: called with a batch of images, (B, C, H, W), and returns what replaces it.

    Raises:
        DataError: no such folder, no images in it; at reading, an image that cannot be decoded, or images of
            different sizes in a batch.
        ValueError: another mode, a size below 1.
        ModuleNotFoundError: Pillow is not installed.
    """

    def __init__(
        self,
        root: str | Path,
        size: Pair | None = None,
        *,
        mode: str = "RGB",
        transform: Callable[[np.ndarray], np.ndarray] | None = None,
    ):
        if mode not in ("RGB", "L"):
            raise ValueError(f"mode is {mode!r}, expected 'RGB' or 'L'")
        _pillow()
        self.root = Path(root)
        self.size = None if size is None else pair(size, "size", least=1)
        self.mode = mode
        self.transform = transform
        if not self.root.is_dir():
            raise DataError(f"there is no folder {self.root}")
        folders = sorted(path for path in self.root.iterdir() if path.is_dir() and not path.name.startswith("."))
        found = [sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES) for folder in folders]
        empty = [folder.name for folder, paths in zip(folders, found) if not paths]
        if empty or not found:
            where = f"the folders {', '.join(empty)} of" if empty else "sub-folders of"
            raise DataError(f"there are no images in {where} {self.root}, expected {self.root}/<class>/<image>")
        self.classes = [folder.name for folder in folders]
        self.paths = [path for paths in found for path in paths]
        self.labels = np.repeat(np.arange(len(found)), [len(paths) for paths in found])

    def __repr__(self) -> str:
        return f"ImageFolder({str(self.root)!r}, {len(self.classes)} classes, {len(self.paths)} images)"

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.int64]:
        images, labels = self.batch([index])
        return images[0], labels[0]

    def batch(self, indices: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return images (B, C, H, W) in channels-last memory and labels (B,)."""
        with ThreadPoolExecutor(os.cpu_count()) as decoders:  # Pillow works outside Python's lock
            images = list(decoders.map(self._decode, [self.paths[i] for i in indices]))
        for i, image in zip(indices, images):
            if image.shape != images[0].shape:
                one, other = (f"{self.paths[j]} is {x.shape[1]} × {x.shape[2]}"
                              for j, x in ((indices[0], images[0]), (i, image)))
                raise DataError(f"images of a batch differ in size, {one} and {other}: choose a size")
        batch = np.stack([image.transpose(1, 2, 0) for image in images]).transpose(0, 3, 1, 2)
        if self.transform is not None:
            batch = self.transform(batch)
        return batch, self.labels[np.asarray(indices)]

    def _decode(self, path: Path) -> np.ndarray:
        image_module, operations = _pillow()
        try:
            with image_module.open(path) as file:
                image = operations.exif_transpose(file).convert(self.mode)
        except (OSError, SyntaxError, ValueError, image_module.DecompressionBombError) as error:
            raise DataError(f"{path} cannot be decoded ({error}): repair or delete it") from error
        if self.size is not None:
            image = operations.fit(image, self.size[::-1], image_module.Resampling.BILINEAR)
        pixels = np.asarray(image)
        return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def image_folder(
    root: str | Path = "data", size: Pair | None = None, *, mode: str = "RGB"
) -> tuple[ArrayDataset, ArrayDataset]:
    """A folder of images as ``(train, test)``, held in memory: images uint8 (N, C, H, W), labels int64 (N,).

    ``root`` has a folder for each class; of each class, the third of every five images, in the order of their names,
    is a test image. Or it has two folders of such folders, ``train`` and ``test`` (or ``val``). Images are normalised
    with the mean and standard deviation of the training images. ``size`` and ``mode`` are those of `ImageFolder`.

    Raises:
        DataError: no such folder, no images in it, one that cannot be decoded, images of different sizes without
            ``size``, fewer than two classes, other classes in the test images, or no test images.
        ValueError: another mode, a size below 1.
        ModuleNotFoundError: Pillow is not installed.
    """
    root = Path(root)
    parts = [root / "train", root / ("test" if (root / "test").is_dir() else "val")]
    if all(part.is_dir() for part in parts):
        train, test = (ImageFolder(part, size, mode=mode) for part in parts)
        differing = sorted(set(train.classes) ^ set(test.classes))
        if differing:
            raise DataError(f"the classes {', '.join(differing)} are in one alone of {train.root} and {test.root}")
        images, labels = train.batch(range(len(train)))
        test_images, test_labels = test.batch(range(len(test)))
        if images.shape[1:] != test_images.shape[1:]:
            one, other = (f"{x.shape[2]} × {x.shape[3]}" for x in (images, test_images))
            raise DataError(f"images of {train.root} are {one} and of {test.root} {other}: choose a size")
    else:
        train = ImageFolder(root, size, mode=mode)
        images, labels = train.batch(range(len(train)))
        chosen = stratified(labels)
        if not chosen.any():
            raise DataError(f"no class in {root} has images enough to test with, expected {TEST_EVERY} or more of each")
        images, labels, test_images, test_labels = images[~chosen], labels[~chosen], images[chosen], labels[chosen]
    if len(train.classes) < 2:
        raise DataError(f"there is one class alone in {train.root}, {train.classes[0]}: expected two or more")
    normalize = Normalize.fit(images)
    # Batches are chosen by np.take, which would copy all of an array that is not C-contiguous.
    return (
        ArrayDataset(np.ascontiguousarray(images), labels, transform=normalize),
        ArrayDataset(np.ascontiguousarray(test_images), test_labels, transform=normalize),
    )


def _pillow():
    try:
        from PIL import Image, ImageOps
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "images are decoded by Pillow, which is not installed: python -m pip install 'nnk[images]'"
        ) from error
    return Image, ImageOps
