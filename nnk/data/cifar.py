"""CIFAR-10 and CIFAR-100, from their binary or their Python archives, packed or unpacked."""

from __future__ import annotations

import io
import pickle
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .datasets import ArrayDataset
from .download import CHUNK, DataError, Remote, download
from .transforms import Normalize

PIXELS = 3 * 32 * 32
CIFAR10 = Remote("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530")
CIFAR100 = Remote("https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8")

Read = Callable[[bytes, str], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Release:
    """One form of the data: an archive, the folder in it, the files with training and test images, how to read one."""

    archive: str
    folder: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    read: Read


def cifar10(root: str | Path = "data/cifar10", *, download: bool = True) -> tuple[ArrayDataset, ArrayDataset]:
    """Colour pictures of ten kinds of things as ``(train, test)``: 50,000 and 10,000 images uint8 (N, 3, 32, 32).

    Labels are int64 (N,), 0…9. Images are normalised with each channel's mean and deviation over the training images.

    Args:
        root: the folder with the archive (binary or Python version), with the folder from it, or with the files in
            that; or the archive itself.
        download: whether to download the binary archive if nothing is there (170 MB).

    Raises:
        DataError: a file is missing, cannot be downloaded, is damaged or holds something else.

    Source: Krizhevsky (2009), Learning multiple layers of features from tiny images.
    """
    batches = tuple(f"data_batch_{i}" for i in range(1, 6))
    return _load(Path(root), CIFAR10 if download else None, 10, (
        Release("cifar-10-binary.tar.gz", "cifar-10-batches-bin", tuple(f"{batch}.bin" for batch in batches),
                ("test_batch.bin",), lambda content, name: _read_binary(content, name, labels=1, which=0)),
        Release("cifar-10-python.tar.gz", "cifar-10-batches-py", batches, ("test_batch",),
                lambda content, name: _read_pickle(content, name, "labels")),
    ))  # fmt: skip


def cifar100(
    root: str | Path = "data/cifar100", *, download: bool = True, coarse: bool = False
) -> tuple[ArrayDataset, ArrayDataset]:
    """Colour pictures of a hundred kinds of things, in everything else like `cifar10` (169 MB).

    ``coarse`` gives the 20 groups of classes in place of the 100 classes.
    """
    return _load(Path(root), CIFAR100 if download else None, 20 if coarse else 100, (
        Release("cifar-100-binary.tar.gz", "cifar-100-binary", ("train.bin",), ("test.bin",),
                lambda content, name: _read_binary(content, name, labels=2, which=0 if coarse else 1)),
        Release("cifar-100-python.tar.gz", "cifar-100-python", ("train",), ("test",),
                lambda content, name: _read_pickle(content, name, "coarse_labels" if coarse else "fine_labels")),
    ))  # fmt: skip


def _load(
    root: Path, remote: Remote | None, classes: int, releases: tuple[Release, ...]
) -> tuple[ArrayDataset, ArrayDataset]:
    release, contents = _contents(root, remote, releases)
    parts = []
    for names in (release.train, release.test):
        images, labels = zip(*(_read(release, *contents[name], classes) for name in names))
        parts.append((np.concatenate(images).reshape(-1, 3, 32, 32), np.concatenate(labels).astype(np.int64)))
    normalize = Normalize.fit(parts[0][0])
    train, test = (ArrayDataset(*part, transform=normalize) for part in parts)
    return train, test


def _read(release: Release, content: bytes, name: str, classes: int) -> tuple[np.ndarray, np.ndarray]:
    try:
        images, labels = release.read(content, name)
        wrong = [label for label in labels.tolist() if not (isinstance(label, int) and 0 <= label < classes)]
        if wrong:
            raise DataError(f"{name} is damaged: it holds the label {wrong[0]!r}, expected 0 to {classes - 1}")
    except DataError as error:
        raise DataError(f"{error}. Unpack {release.archive} again, or delete it to download it again") from error
    return images, labels


def _contents(
    root: Path, remote: Remote | None, releases: tuple[Release, ...]
) -> tuple[Release, dict[str, tuple[bytes, str]]]:
    """Find a release, and return it with each file's bytes and how to call it in a message."""
    for release in releases:
        names = release.train + release.test
        for folder in (root, root / release.folder):
            missing = [name for name in names if not (folder / name).is_file()]
            if missing and folder.name == release.folder and folder.is_dir():
                raise DataError(f"there is no {', '.join(missing)} in {folder}: unpack {release.archive} again")
            if not missing:
                return release, {name: ((folder / name).read_bytes(), str(folder / name)) for name in names}
        archive = root if root.is_file() and root.name == release.archive else root / release.archive
        if archive.is_file():
            return release, _unpack(archive, release)
    if root.is_file():
        raise DataError(f"{root} is none of {', '.join(release.archive for release in releases)}")
    if remote is None:
        archives = " or ".join(release.archive for release in releases)
        raise DataError(f"there is no {archives} in {root}: put one there, or let download=True fetch it")
    return releases[0], _unpack(download(remote, root), releases[0])


def _unpack(archive: Path, release: Release) -> dict[str, tuple[bytes, str]]:
    """Return the files of an archive without writing any of them to disk."""
    wanted = {f"{release.folder}/{name}": name for name in release.train + release.test}
    contents = {}
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                if member.name in wanted and member.isfile():
                    contents[wanted[member.name]] = tar.extractfile(member).read(), f"{member.name} in {archive}"
            while tar.fileobj.read(CHUNK):  # to the very end, where gzip keeps the sum of all
                pass
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        reason = " ".join(str(error).split())  # tarfile's are of several lines
        raise DataError(f"{archive} is truncated or damaged ({reason}): delete it and download it again") from error
    missing = ", ".join(name for name, short in wanted.items() if short not in contents)
    if missing:
        raise DataError(f"there is no {missing} in {archive}: delete it and download it again")
    return contents


def _read_binary(content: bytes, name: str, labels: int, which: int) -> tuple[np.ndarray, np.ndarray]:
    """Records of label bytes, of which ``which`` is wanted, and pixels, channel by channel."""
    size = labels + PIXELS
    if not content or len(content) % size:
        raise DataError(f"{name} is truncated or damaged ({len(content)} bytes, expected a multiple of {size})")
    records = np.frombuffer(content, np.uint8).reshape(-1, size)
    return records[:, labels:], records[:, which]


def _read_pickle(content: bytes, name: str, key: str) -> tuple[np.ndarray, np.ndarray]:
    """A pickled dict with the pixels (N, 3072) and a list of labels."""
    try:
        batch = _ArraysOnly(io.BytesIO(content), encoding="bytes").load()
    except DataError as error:
        raise DataError(f"{name} {error}") from error
    except Exception as error:  # a damaged pickle can raise anything
        raise DataError(f"{name} is truncated or damaged ({error!r})") from error
    images, labels = (_entry(batch, field, name) for field in ("data", key))
    labels = np.asarray(labels)
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.shape != (labels.size, PIXELS):
        raise DataError(f"{name} is damaged: its data do not fit its {labels.size} labels")
    return images, labels


def _entry(batch: Any, key: str, name: str) -> Any:
    """An entry of a dict whose keys may be bytes, as Python 2 wrote them."""
    if isinstance(batch, dict):
        for form in (key, key.encode()):
            if form in batch:
                return batch[form]
    raise DataError(f"{name} is no batch of CIFAR: it has no entry {key!r}")


class _ArraysOnly(pickle.Unpickler):
    """Reads pickles of plain values and NumPy arrays, and refuses all else: a pickle could run any program."""

    _RECONSTRUCT = np.empty(0).__reduce__()[0]

    def find_class(self, module: str, name: str) -> Any:
        if name == "_reconstruct" and module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            return self._RECONSTRUCT
        if module == "numpy" and name in ("ndarray", "dtype"):
            return getattr(np, name)
        if (module, name) == ("_codecs", "encode"):  # how Python 3 writes bytes for Python 2
            return lambda text, encoding: text.encode("latin1")
        raise DataError(f"is not trusted: it wants to use {module}.{name}, and may do so only with NumPy arrays")
