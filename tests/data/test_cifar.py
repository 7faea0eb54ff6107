import io
import os
import pickle
import shutil
import struct
import tarfile

import numpy as np
import pytest

from nnk.data import DataError, cifar10, cifar100
from nnk.data.cifar import CIFAR10, CIFAR100

rng = np.random.default_rng(0)
PIXELS = rng.integers(0, 256, (12, 3072), np.uint8)
LABELS = rng.integers(0, 10, 12)
COARSE = rng.integers(0, 5, 12)


class Python2Pickler(pickle._Pickler):
    """Writes byte strings and NumPy's names as Python 2 did, which the published files were made with."""

    dispatch = pickle._Pickler.dispatch.copy()

    def save_bytes(self, value):
        self.write(b"T" + struct.pack("<i", len(value)) + value)

    def save_global(self, value, name=None):
        old = {"_reconstruct": "numpy.core.multiarray", "ndarray": "numpy", "dtype": "numpy"}
        name = name or value.__name__
        self.write(f"c{old[name]}\n{name}\n".encode())

    dispatch[bytes] = save_bytes
    dispatch[type(np.empty)] = dispatch[type] = save_global
    dispatch[type(np.empty(0).__reduce__()[0])] = save_global


def python2(batch):
    stream = io.BytesIO()
    Python2Pickler(stream, 2).dump({key.encode(): value for key, value in batch.items()})
    return stream.getvalue()


def python3(batch):
    return pickle.dumps(batch, 2)


def binary_files(classes):
    """The files of a release: ten training images, in five batches for CIFAR-10, and two test images."""

    def records(part):
        labels = [LABELS[part]] if classes == 10 else [COARSE[part], LABELS[part]]
        return np.column_stack([*labels, PIXELS[part]]).astype(np.uint8).tobytes()

    if classes == 10:
        files = {f"data_batch_{i + 1}.bin": records(slice(2 * i, 2 * i + 2)) for i in range(5)}
        return "cifar-10-batches-bin", files | {"test_batch.bin": records(slice(10, 12))}
    return "cifar-100-binary", {"train.bin": records(slice(10)), "test.bin": records(slice(10, 12))}


def python_files(classes, dump):
    def batch(part):
        labels = {"labels": LABELS[part].tolist()} if classes == 10 else {
            "fine_labels": LABELS[part].tolist(), "coarse_labels": COARSE[part].tolist()}
        return dump({"data": PIXELS[part], **labels})

    if classes == 10:
        files = {f"data_batch_{i + 1}": batch(slice(2 * i, 2 * i + 2)) for i in range(5)}
        return "cifar-10-batches-py", files | {"test_batch": batch(slice(10, 12))}
    return "cifar-100-python", {"train": batch(slice(10)), "test": batch(slice(10, 12))}


def unpacked(root, folder, files):
    (root / folder).mkdir(parents=True)
    for name, content in files.items():
        (root / folder / name).write_bytes(content)
    return root


def packed(root, folder, files, mode="w:gz"):
    name = {"cifar-10-batches-bin": "cifar-10-binary", "cifar-10-batches-py": "cifar-10-python"}.get(folder, folder)
    root.mkdir(exist_ok=True)
    with tarfile.open(root / f"{name}.tar.gz", mode) as tar:
        readme = {"readme.html": b"<p>", **files}  # not only what is read
        for file, content in readme.items():
            info = tarfile.TarInfo(f"{folder}/{file}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return root


LOADERS = {10: cifar10, 100: cifar100}
FORMS = {
    "binary": binary_files,
    "python 2": lambda classes: python_files(classes, python2),
    "python 3": lambda classes: python_files(classes, python3),
}


@pytest.mark.parametrize("place", [unpacked, packed])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("classes", [10, 100])
def test_reads_every_form(tmp_path, classes, form, place):
    root = place(tmp_path / "data", *FORMS[form](classes))
    for start in (root, *root.iterdir()):  # the folder with the archive or folder, and that itself
        train, test = LOADERS[classes](start, download=False)
        for part, indices in ((train, slice(10)), (test, slice(10, 12))):
            np.testing.assert_array_equal(part.arrays[0], PIXELS[indices].reshape(-1, 3, 32, 32))
            np.testing.assert_array_equal(part.arrays[1], LABELS[indices])
            assert part.arrays[1].dtype == np.int64
        x, _ = train.batch(range(10))
        np.testing.assert_allclose(x.mean((0, 2, 3)), 0, atol=1e-5)
        np.testing.assert_allclose(x.std((0, 2, 3)), 1, atol=1e-4)
    if classes == 100:
        train, _ = cifar100(root, download=False, coarse=True)
        np.testing.assert_array_equal(train.arrays[1], COARSE[:10])
    assert sorted(os.listdir(tmp_path)) == ["data"]


@pytest.mark.parametrize(("classes", "remote"), [(10, CIFAR10), (100, CIFAR100)])
def test_downloads_the_binary_archive(tmp_path, monkeypatch, classes, remote):
    def fetch(asked, folder):
        assert asked == remote
        return packed(folder, *binary_files(classes)) / remote.name

    monkeypatch.setattr("nnk.data.cifar.download", fetch)
    train, _ = LOADERS[classes](tmp_path / "new")
    assert len(train) == 10
    assert len(remote.md5) == 32
    assert remote.url.endswith("-binary.tar.gz")


def test_nothing_is_downloaded_without_leave(tmp_path):
    with pytest.raises(DataError, match=r"there is no cifar-10-binary.tar.gz or cifar-10-python.tar.gz in"):
        cifar10(tmp_path, download=False)
    (tmp_path / "other.zip").write_bytes(b"")
    with pytest.raises(DataError, match=r"other.zip is none of cifar-100-binary.tar.gz, cifar-100-python.tar.gz"):
        cifar100(tmp_path / "other.zip")


def test_truncated_archives_are_found_out(tmp_path):
    packed(tmp_path, *binary_files(10))
    path = tmp_path / "cifar-10-binary.tar.gz"
    whole = path.read_bytes()
    for n in (0, 1, 10, 100, len(whole) // 2, len(whole) - 3000):
        path.write_bytes(whole[:n])
        with pytest.raises(DataError, match=r"binary.tar.gz is truncated or damaged .*: delete it and download it"):
            cifar10(tmp_path)


@pytest.mark.parametrize("place", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_one_wrong_byte_in_an_archive_is_found_out(tmp_path, place):
    packed(tmp_path, *binary_files(10))
    path = tmp_path / "cifar-10-binary.tar.gz"
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 0x55
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"binary.tar.gz.*: delete it and download it again"):
        cifar10(tmp_path)


def test_truncated_tars_without_compression_are_found_out(tmp_path):
    packed(tmp_path, *binary_files(100), mode="w")
    path = tmp_path / "cifar-100-binary.tar.gz"
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(DataError, match=r"cifar-100-binary.tar.gz is"):
        cifar100(tmp_path)


def test_missing_and_truncated_files_are_named(tmp_path):
    folder, files = binary_files(10)
    packed(tmp_path / "archive", folder, {name: files[name] for name in files if "3" not in name})
    with pytest.raises(DataError, match=r"there is no cifar-10-batches-bin/data_batch_3.bin in .*binary.tar.gz"):
        cifar10(tmp_path / "archive")
    unpacked(tmp_path, folder, files)
    broken = tmp_path / folder / "data_batch_2.bin"
    broken.write_bytes(files["data_batch_2.bin"][:-1])
    with pytest.raises(DataError, match=r"data_batch_2.bin is truncated or damaged \(6145 bytes, expected a multiple"):
        cifar10(tmp_path)
    broken.unlink()
    with pytest.raises(DataError, match=r"there is no data_batch_2.bin in .*: unpack cifar-10-binary.tar.gz again"):
        cifar10(tmp_path)
    shutil.rmtree(tmp_path / folder)


class Program:
    """What a malicious pickle does."""

    def __reduce__(self):
        return os.mkdir, ("owned",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps(Program()), rf"train is not trusted: it wants to use {os.mkdir.__module__}.mkdir"),
        (pickle.dumps({"data": np.array([Program()]), "fine_labels": [1]}, 2), "is not trusted"),
        (pickle.dumps(np.random.default_rng(0)), "is not trusted: it wants to use numpy.random"),
        (b"cnumpy\nload\n.", r"is not trusted: it wants to use numpy.load"),
        (b"", "train is truncated or damaged"),
        (python2({"data": PIXELS, "fine_labels": LABELS.tolist()})[:500], "train is truncated or damaged"),
        (python2({"data": PIXELS}), "train is no batch of CIFAR: it has no entry 'fine_labels'"),
        (pickle.dumps([1]), "train is no batch of CIFAR: it has no entry 'data'"),
        (python2({"data": PIXELS[:3], "fine_labels": [1, 2]}), "train is damaged: its data do not fit its 2 labels"),
    ],
)
def test_pickles_hold_data_and_nothing_else(tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    unpacked(tmp_path / "data", "cifar-100-python", {"train": content, "test": content})
    with pytest.raises(DataError, match=message):
        cifar100(tmp_path / "data")
    assert not (tmp_path / "owned").exists()


def test_labels_out_of_range_are_found_out(tmp_path):
    folder, files = binary_files(10)
    files["data_batch_3.bin"] = b"\x0a" + files["data_batch_3.bin"][1:]
    unpacked(tmp_path, folder, files)
    message = r"data_batch_3.bin is damaged: .* label 10, expected 0 to 9. Unpack cifar-10-binary.tar.gz again"
    with pytest.raises(DataError, match=message):
        cifar10(tmp_path)
