import sys

import numpy as np
import pytest

from nnk.data import DataError, DataLoader, ImageFolder, Normalize, image_folder

Image = pytest.importorskip("PIL.Image")


@pytest.fixture
def root(tmp_path):
    """Two classes, of images whose colour tells the file."""
    files = {"cat/b.png": 1, "cat/a.bmp": 0, "cat/deep/c.png": 2, "ant/z.png": 3, ".hidden/x.png": 9}
    for name, colour in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (6, 4), (colour, 10 * colour, 20 * colour)).save(path)
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    return tmp_path


def test_classes_are_folders_in_order(root):
    data = ImageFolder(root)
    assert data.classes == ["ant", "cat"]
    images, labels = data.batch(range(4))
    assert images.shape == (4, 3, 4, 6)
    assert images.dtype == np.uint8
    assert labels.dtype == np.int64
    assert labels.tolist() == [0, 1, 1, 1]
    assert images[:, :, 0, 0].tolist() == [[3, 30, 60], [0, 0, 0], [1, 10, 20], [2, 20, 40]]
    image, label = data[3]
    np.testing.assert_array_equal(image, images[3])
    assert label == 1
    with pytest.raises(IndexError):
        data[4]


def test_rows_and_columns_stay_what_they_are(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    (tmp_path / "a").mkdir()
    Image.fromarray(pixels).save(tmp_path / "a" / "x.png")
    np.testing.assert_array_equal(ImageFolder(tmp_path)[0][0], pixels.transpose(2, 0, 1))
    grey, _ = ImageFolder(tmp_path, mode="L")[0]
    assert grey.shape == (1, 5, 7)
    np.testing.assert_allclose(grey[0], pixels @ [0.299, 0.587, 0.114], atol=1)


def test_a_photograph_is_turned_upright(tmp_path):
    (tmp_path / "a").mkdir()
    image = Image.new("RGB", (6, 4))
    image.getexif()[0x0112] = 6
    image.save(tmp_path / "a" / "x.jpg", exif=image.getexif())
    assert ImageFolder(tmp_path)[0][0].shape == (3, 6, 4)


def test_size_covers_and_cuts_evenly(tmp_path):
    (tmp_path / "a").mkdir()
    pixels = np.zeros((10, 30, 3), np.uint8)
    pixels[:, 10:20] = 200
    Image.fromarray(pixels).save(tmp_path / "a" / "x.png")
    assert (ImageFolder(tmp_path, 10)[0][0] == 200).all()
    assert ImageFolder(tmp_path, (20, 8))[0][0].shape == (3, 20, 8)


def test_images_of_different_sizes_need_a_size(root):
    Image.new("RGB", (5, 5)).save(root / "ant" / "other.png")
    with pytest.raises(DataError, match=r"differ in size, .*other.png is 5 × 5 and .*z.png is 4 × 6: choose a size"):
        ImageFolder(root).batch([0, 1])
    assert ImageFolder(root, 4).batch([0, 1])[0].shape == (2, 3, 4, 4)


def test_it_feeds_a_loader(root):
    data = ImageFolder(root, transform=Normalize([0, 0, 0], [1, 10, 20]))
    (x, y), _ = DataLoader(data, 3)
    assert x.dtype == np.float32
    assert x.transpose(0, 2, 3, 1).flags.c_contiguous
    assert x[:, :, 1, 1].tolist() == [[3, 3, 3], [0, 0, 0], [1, 1, 1]]
    assert y.tolist() == [0, 1, 1]


def test_damaged_images_are_named(root):
    path = root / "ant" / "z.png"
    whole = path.read_bytes()
    for content in (b"", b"no image at all", whole[: len(whole) - 30]):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"z.png cannot be decoded \(.*\): repair or delete it"):
            ImageFolder(root)[0]


def test_folders_without_images(root, tmp_path):
    (root / "empty").mkdir()
    with pytest.raises(DataError, match="there are no images in the folders empty of"):
        ImageFolder(root)
    with pytest.raises(DataError, match="there are no images in sub-folders of"):
        ImageFolder(root / "ant")
    with pytest.raises(DataError, match="there is no folder"):
        ImageFolder(root / "none")
    with pytest.raises(ValueError, match="mode is 'P', expected 'RGB' or 'L'"):
        ImageFolder(root, mode="P")


def test_without_pillow_the_error_says_what_to_install(root, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ModuleNotFoundError, match=r"python -m pip install 'nnk\[images\]'"):
        ImageFolder(root)


def draw(root, counts, size=(6, 4)):
    """Write so many images of each class, whose colour tells the class and the image."""
    for label, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", size, (label, i, 0)).save(root / name / f"{i}.png")


def test_one_image_in_five_of_each_class_is_a_test_image(tmp_path):
    draw(tmp_path, {"a": 5, "b": 9})
    train, test = image_folder(tmp_path)
    images, labels = test.arrays
    assert images[:, :2, 0, 0].tolist() == [[0, 2], [1, 2], [1, 7]]
    assert labels.tolist() == [0, 1, 1]
    images, labels = train.arrays
    assert images.shape == (11, 3, 4, 6)
    assert images.dtype == np.uint8
    assert labels.tolist() == [0] * 4 + [1] * 7
    np.testing.assert_array_equal(train.transform.mean, images.mean((0, 2, 3), dtype=np.float32))
    assert train.batch(range(11))[0].dtype == np.float32
    assert image_folder(tmp_path, 3, mode="L")[0].arrays[0].shape == (11, 1, 3, 3)


@pytest.mark.parametrize("name", ["test", "val"])
def test_a_folder_may_come_in_two_parts(tmp_path, name):
    draw(tmp_path / "train", {"a": 1, "b": 2})
    draw(tmp_path / name, {"a": 2, "b": 1})
    train, test = image_folder(tmp_path)
    assert train.arrays[1].tolist() == [0, 1, 1]
    assert test.arrays[1].tolist() == [0, 0, 1]


def test_folders_that_cannot_be_learnt_from(tmp_path):
    with pytest.raises(DataError, match=r"there is no folder .*none"):
        image_folder(tmp_path / "none")
    draw(tmp_path / "one", {"a": 5})
    with pytest.raises(DataError, match=r"there is one class alone in .*one, a: expected two or more"):
        image_folder(tmp_path / "one")
    draw(tmp_path / "few", {"a": 2, "b": 2})
    with pytest.raises(DataError, match=r"no class in .*few has images enough .*, expected 5 or more"):
        image_folder(tmp_path / "few")
    draw(tmp_path / "parts" / "train", {"a": 1, "b": 1})
    draw(tmp_path / "parts" / "test", {"a": 1, "c": 1}, size=(4, 4))
    with pytest.raises(DataError, match=r"the classes b, c are in one alone of .*train and .*test"):
        image_folder(tmp_path / "parts")
    (tmp_path / "parts" / "test" / "c").rename(tmp_path / "parts" / "test" / "b")
    with pytest.raises(DataError, match=r"images of .*train are 4 × 6 and of .*test 4 × 4: choose a size"):
        image_folder(tmp_path / "parts")
    assert [len(part) for part in image_folder(tmp_path / "parts", 4)] == [2, 2]
