import numpy as np
import pytest

import nnk.data
from nnk.data import ArrayDataset, DataLoader, Normalize
from nnk.data import registry as names_of_data
from nnk.data.picture import GAP, save_grid


@pytest.fixture
def train():
    images = np.random.default_rng(0).integers(0, 256, (20, 3, 16, 16), np.uint8)
    return ArrayDataset(images, np.arange(20) % 4, transform=Normalize.fit(images))


def test_data_that_is_downloaded_lies_in_a_folder_of_its_name(monkeypatch, tmp_path):
    monkeypatch.setitem(names_of_data.DOWNLOADS, "mnist", lambda root: root)
    assert nnk.data.load("mnist", tmp_path) == tmp_path / "mnist"
    assert nnk.data.names() == ["cifar10", "cifar100", "digits", "fashion_mnist", "folder", "mnist"]
    with pytest.raises(ValueError, match="size is 8, which goes with data 'folder' alone"):
        nnk.data.load("mnist", tmp_path, 8)


@pytest.mark.parametrize("name", nnk.data.augmentation_names())
def test_every_name_is_an_augmentation(train, name):
    steps = nnk.data.augmentations([name], train)
    loader = DataLoader(ArrayDataset(*train.arrays), 20, seed=1, augment=steps)
    ((x, y),) = loader
    ((other, _),) = loader
    assert x.shape == train.arrays[0].shape
    assert y.shape == ((20, 4) if name in ("mixup", "cutmix") else (20,))
    assert not np.array_equal(x, train.batch(range(20))[0])
    assert not np.array_equal(x, other)
    assert abs(x.mean()) < 0.3  # normalised
    assert 0.5 < x.std() < 1.5


def test_pixels_come_before_the_normalisation_and_the_rest_behind(train):
    steps = nnk.data.augmentations(["mixup", "flip", "cutout", "crop"], train)
    kinds = [type(step).__name__ for step in steps]
    assert kinds == ["RandomHorizontalFlip", "RandomCrop", "Normalize", "MixUp", "Cutout"]
    assert repr(steps[1]).startswith("RandomCrop(size=(16, 16), padding=(2, 2)")
    with pytest.raises(ValueError, match="unknown augmentation 'flop', known are: affine, blur"):
        nnk.data.augmentations(["crop", "flop"], train)


def test_normalize_has_an_inverse(train):
    images = train.arrays[0]
    np.testing.assert_allclose(train.transform.inverse(train.transform(images)), images, atol=1e-3)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_grid_holds_every_image_in_its_place(tmp_path, channels):
    read = pytest.importorskip("matplotlib.image").imread
    rows = np.arange(2 * 3 * channels * 4 * 5, dtype=float).reshape(2, 3, channels, 4, 5)
    save_grid(rows, tmp_path / "grid.png")
    picture = read(tmp_path / "grid.png")[..., :3]
    factor = picture.shape[0] // (2 * (4 + GAP) - GAP)
    assert factor > 1
    small = picture[::factor, ::factor]
    assert small.shape == (2 * (4 + GAP) - GAP, 3 * (5 + GAP) - GAP, 3)
    image = small[4 + GAP :, 5 + GAP : 2 * 5 + GAP]
    want = np.broadcast_to(rows[1, 1].transpose(1, 2, 0) / rows.max(), (4, 5, 3))
    np.testing.assert_allclose(image, want, atol=1 / 255)
    with pytest.raises(ValueError, match="expected \\(rows, columns, C, H, W\\) with 1 or 3 channels"):
        save_grid(np.zeros((2, 2, 2, 4, 4)), tmp_path / "grid.png")
