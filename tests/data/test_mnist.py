import gzip
import hashlib
import re
import struct
from importlib import import_module

import numpy as np
import pytest

from nnk.data import DataError, download, fashion_mnist, mnist
from nnk.data.mnist import FASHION_MNIST_MD5, MNIST_MD5, PARTS, read_idx

CODES = {"uint8": 0x08, "int8": 0x09, "int16": 0x0B, "int32": 0x0C, "float32": 0x0D, "float64": 0x0E}


def idx(array):
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, CODES[array.dtype.name], array.ndim, *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write(folder, pack=lambda content: content, suffix=""):
    """A data set of 7 training and 3 test images."""
    rng = np.random.default_rng(0)
    arrays = {}
    for (images, labels), n in zip(PARTS, (7, 3)):
        arrays[images] = rng.integers(0, 256, (n, 28, 28), np.uint8)
        arrays[labels] = rng.integers(0, 10, n, np.uint8)
    folder.mkdir(exist_ok=True)
    for name, array in arrays.items():
        (folder / f"{name}{suffix}").write_bytes(pack(idx(array)))
    return arrays


@pytest.mark.parametrize(("pack", "suffix"), [(bytes, ""), (gzip.compress, ".gz"), (gzip.compress, "")])
def test_reads_plain_and_compressed_files(tmp_path, pack, suffix):
    arrays = write(tmp_path, pack, suffix)
    parts = mnist(tmp_path, download=False)
    for part, (images, labels) in zip(parts, PARTS):
        np.testing.assert_array_equal(part.arrays[0], arrays[images][:, None])
        assert part.arrays[0].dtype == np.uint8
        np.testing.assert_array_equal(part.arrays[1], arrays[labels])
        assert part.arrays[1].dtype == np.int64
    x, _ = parts[0].batch(range(7))
    assert x.dtype == np.float32
    assert x.shape == (7, 1, 28, 28)
    assert abs(x.mean()) < 1e-5
    assert abs(x.std() - 1) < 1e-4
    assert parts[1].transform is parts[0].transform


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_downloads_what_is_missing(tmp_path, monkeypatch, name):
    arrays = write(tmp_path / "there", gzip.compress, ".gz")
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / PARTS[0][1]).write_bytes(idx(arrays[PARTS[0][1]]))
    fetched = []

    def fetch(remote, folder):
        fetched.append(remote)
        return tmp_path / "there" / remote.name

    monkeypatch.setattr(import_module("nnk.data.mnist"), "download", fetch)
    train, _ = {"mnist": mnist, "fashion_mnist": fashion_mnist}[name](tmp_path / "here")
    np.testing.assert_array_equal(train.arrays[1], arrays[PARTS[0][1]])
    sums = {"mnist": MNIST_MD5, "fashion_mnist": FASHION_MNIST_MD5}[name]
    missing = [PARTS[0][0], *PARTS[1]]
    assert [remote.md5 for remote in fetched] == [sums[part] for part in missing]
    assert [remote.name for remote in fetched] == [f"{part}.gz" for part in missing]
    assert all(remote.url.startswith("http") for remote in fetched)


def test_published_sums_are_whole():
    sums = [*MNIST_MD5.values(), *FASHION_MNIST_MD5.values()]
    assert len(set(sums)) == 8
    assert all(re.fullmatch("[0-9a-f]{32}", text) for text in sums)
    assert download.Remote("http://a/b/c.gz", hashlib.md5(b"").hexdigest()).name == "c.gz"


def test_nothing_is_downloaded_without_leave(tmp_path):
    with pytest.raises(DataError, match=r"there is no train-images-idx3-ubyte or train-images-idx3-ubyte.gz in"):
        mnist(tmp_path, download=False)


@pytest.mark.parametrize("dtype", sorted(CODES))
@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4), (0, 5)])
def test_idx_of_any_type_and_rank(tmp_path, dtype, shape):
    array = np.asarray(np.random.default_rng(0).normal(size=shape) * 100).astype(dtype)
    (tmp_path / "file").write_bytes(idx(array))
    got = read_idx(tmp_path / "file")
    np.testing.assert_array_equal(got, array)
    assert got.dtype == array.dtype
    assert got.shape == array.shape


def test_every_truncated_idx_file_is_found_out(tmp_path):
    whole = idx(np.arange(12, dtype=np.int16).reshape(3, 4))
    path = tmp_path / "some-images"
    for content in (*(whole[:n] for n in range(len(whole))), whole + b"\0"):
        path.write_bytes(content)
        with pytest.raises(DataError, match="some-images is"):
            read_idx(path)
    packed = gzip.compress(whole)
    for n in range(2, len(packed)):
        path.write_bytes(packed[:n])
        with pytest.raises(DataError, match=r"some-images is truncated or damaged .*: delete it and download it again"):
            read_idx(path)
    path.write_bytes(packed[:20] + bytes([packed[20] ^ 0xFF]) + packed[21:])
    with pytest.raises(DataError, match="some-images is truncated or damaged"):
        read_idx(path)


def test_other_files_are_refused(tmp_path):
    (tmp_path / "page").write_text("<html>not found</html>")
    with pytest.raises(DataError, match="page is no IDX file: it begins with b'<htm'"):
        read_idx(tmp_path / "page")
    with pytest.raises(DataError, match="there is no file"):
        read_idx(tmp_path / "none")


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        (PARTS[0][0], np.zeros(7, np.uint8), r"train-images-idx3-ubyte holds uint8 \(7,\), expected images uint8"),
        (PARTS[1][1], np.zeros(4, np.uint8), "expected a label for each of the 3 images in t10k-images-idx3-ubyte"),
        (PARTS[1][1], np.zeros(3, np.float32), "t10k-labels-idx1-ubyte holds float32"),
    ],
)
def test_files_that_do_not_fit(tmp_path, name, array, message):
    write(tmp_path)
    (tmp_path / name).write_bytes(idx(array))
    with pytest.raises(DataError, match=message):
        mnist(tmp_path, download=False)
