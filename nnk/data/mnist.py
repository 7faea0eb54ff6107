"""MNIST and the data sets that come in its format, IDX."""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from .datasets import ArrayDataset
from .download import DataError, Remote, download
from .transforms import Normalize

PARTS = (
    ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
)
MNIST_URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
MNIST_MD5 = {
    "train-images-idx3-ubyte": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte": "ec29112dd5afa0611ce80d1b7f02629c",
}
FASHION_MNIST_URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
FASHION_MNIST_MD5 = {
    "train-images-idx3-ubyte": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte": "bb300cfdad3c16e7a12a480ee83cd310",
}
IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
GZIP_MAGIC = b"\x1f\x8b"


def mnist(root: str | Path = "data/mnist", *, download: bool = True) -> tuple[ArrayDataset, ArrayDataset]:
    """Handwritten digits as ``(train, test)``: 60,000 and 10,000 images uint8 (N, 1, 28, 28), labels int64 (N,), 0…9.

    Images are normalised with the mean and standard deviation of the training images.

    Args:
        root: the folder of the four files, plain or as .gz.
        download: whether to download the files that are not there (11 MB).

    Raises:
        DataError: a file is missing, cannot be downloaded, is damaged or holds something else.

    Source: LeCun, Bottou, Bengio and Haffner (1998), Gradient-based learning applied to document recognition.
    """
    return _load(Path(root), MNIST_URL if download else None, MNIST_MD5)


def fashion_mnist(
    root: str | Path = "data/fashion_mnist", *, download: bool = True
) -> tuple[ArrayDataset, ArrayDataset]:
    """Pictures of ten kinds of clothing, in everything else like `mnist` (31 MB).

    Source: Xiao, Rasul and Vollgraf (2017), Fashion-MNIST: a novel image dataset for benchmarking machine learning
    algorithms.
    """
    return _load(Path(root), FASHION_MNIST_URL if download else None, FASHION_MNIST_MD5)


def _load(root: Path, url: str | None, md5: Mapping[str, str]) -> tuple[ArrayDataset, ArrayDataset]:
    arrays = []
    for names in PARTS:
        paths = [_find(root, name, url, md5[name]) for name in names]
        images, labels = map(read_idx, paths)
        if images.ndim != 3 or images.dtype != np.uint8:
            raise DataError(f"{paths[0]} holds {images.dtype} {images.shape}, expected images uint8 (N, H, W)")
        if labels.shape != images.shape[:1] or labels.dtype != np.uint8:
            raise DataError(
                f"{paths[1]} holds {labels.dtype} {labels.shape}, expected a label for each of the {len(images)} "
                f"images in {paths[0].name}"
            )
        arrays.append((images[:, None], labels.astype(np.int64)))
    normalize = Normalize.fit(arrays[0][0])
    train, test = (ArrayDataset(*part, transform=normalize) for part in arrays)
    return train, test


def _find(root: Path, name: str, url: str | None, md5: str) -> Path:
    for path in (root / name, root / f"{name}.gz"):
        if path.is_file():
            return path
    if url is None:
        raise DataError(f"there is no {name} or {name}.gz in {root}: put it there, or let download=True fetch it")
    return download(Remote(f"{url}{name}.gz", md5), root)


def read_idx(path: str | Path) -> np.ndarray:
    """Read an array from an IDX file, plain or compressed with gzip.

    A file is two zero bytes, a type, a number of axes, the sizes as 32-bit integers and the elements, all with the
    highest byte first.

    Raises:
        DataError: the file is missing, truncated, damaged or no IDX file.

    Source: LeCun, Cortes and Burges, The MNIST database of handwritten digits.
    """
    try:
        content = Path(path).read_bytes()
        if content[:2] == GZIP_MAGIC:
            content = gzip.decompress(content)
    except FileNotFoundError as error:
        raise DataError(f"there is no file {path}") from error
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(f"{path} is truncated or damaged ({error}): delete it and download it again") from error
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in IDX_TYPES:
        raise DataError(f"{path} is no IDX file: it begins with {content[:4]!r}: delete it and download it again")
    start = 4 + 4 * content[3]
    shape = tuple(int(size) for size in np.frombuffer(content[4:start][: (len(content) - 4) // 4 * 4], ">u4"))
    dtype = np.dtype(IDX_TYPES[content[2]])
    expected = start + math.prod(shape) * dtype.itemsize
    if len(shape) != content[3] or len(content) != expected:
        raise DataError(
            f"{path} is truncated or damaged ({len(content)} bytes, expected {expected}): delete it and download it "
            "again"
        )
    return np.frombuffer(content, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))
