import numpy as np
import pytest

import nnk.data
from nnk.data import ArrayDataset, Compose, Normalize


@pytest.fixture(scope="module")
def digits():
    pytest.importorskip("sklearn")
    return nnk.data.digits()


def test_digits_are_split_once_and_for_all(digits):
    train, test = digits
    assert (len(train), len(test)) == (1438, 359)
    images, labels = train.batch(range(len(train)))
    assert images.shape == (1438, 1, 8, 8)
    assert images.dtype == np.float32
    assert labels.dtype == np.int64
    # The tenth part of each class in train and test alike: that is what stratified means.
    for part in digits:
        share = np.bincount(part.arrays[1], minlength=10) / len(part)
        np.testing.assert_allclose(share, 0.1, atol=0.005)
    together = np.concatenate([part.arrays[0].reshape(-1, 64) for part in digits])
    assert len(np.unique(together, axis=0)) == 1797


def test_digits_are_normalised_by_the_training_images_alone(digits):
    train, test = digits
    images, _ = train.batch(range(len(train)))
    assert abs(images.mean()) < 1e-5
    assert abs(images.std() - 1) < 1e-5
    assert test.transform is train.transform


def test_without_scikit_learn_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sklearn.datasets", None)
    with pytest.raises(ModuleNotFoundError, match=r"python -m pip install 'nnk\[demo\]'"):
        nnk.data.digits()


def test_unknown_name_lists_the_known_ones():
    known = "cifar10, cifar100, digits, fashion_mnist, folder, mnist"
    with pytest.raises(ValueError, match=f"unknown data 'mnits', known are: {known}"):
        nnk.data.load("mnits")


def test_array_dataset_samples_and_batches_agree():
    images = np.random.default_rng(0).integers(0, 255, (7, 3, 4, 5), np.uint8)
    data = ArrayDataset(images, np.arange(7), transform=Normalize([1, 2, 3], [4, 5, 6]))
    x, y = data.batch([6, 0, 6])
    assert y.tolist() == [6, 0, 6]
    expected = (images[[6, 0, 6]] - np.array([1, 2, 3.0])[:, None, None]) / np.array([4, 5, 6.0])[:, None, None]
    np.testing.assert_allclose(x, expected, rtol=1e-6)
    assert x.dtype == np.float32
    np.testing.assert_array_equal(data[-1][0], x[0])
    with pytest.raises(IndexError, match="index 7 is out of range for a data set of 7 samples"):
        data[7]


def test_array_dataset_wants_arrays_of_one_length():
    with pytest.raises(ValueError, match=r"arrays have shapes \[\(3, 2\), \(4,\)\], expected the same length"):
        ArrayDataset(np.zeros((3, 2)), np.zeros(4))
    with pytest.raises(ValueError, match="same length"):
        ArrayDataset(np.float32(1))
    with pytest.raises(ValueError, match="expected at least one"):
        ArrayDataset()


def test_compose_applies_in_order():
    assert Compose([lambda x: x + 1, lambda x: x * 2])(np.array([1.0])).tolist() == [4.0]


def test_normalize_fit_makes_zero_mean_and_unit_deviation():
    images = np.random.default_rng(1).normal(3, 5, (20, 2, 6, 6)) * np.array([1, 0])[:, None, None]
    normalized = Normalize.fit(images)(images)
    np.testing.assert_allclose(normalized.mean((0, 2, 3)), 0, atol=1e-6)
    np.testing.assert_allclose(normalized.std((0, 2, 3)), [1, 0], atol=1e-6)
    np.testing.assert_array_equal(Normalize.fit(images)(images[0]), normalized[0])


@pytest.mark.parametrize(
    ("mean", "std"), [([0, 0], [1]), ([0], [0]), ([0], [-1]), ([np.nan], [1]), ([0], [np.inf]), ([[0]], [[1]])]
)
def test_normalize_rejects_bad_statistics(mean, std):
    with pytest.raises(ValueError, match="mean"):
        Normalize(mean, std)


def test_normalize_rejects_other_channels():
    with pytest.raises(ValueError, match=r"images have shape \(2, 4, 5, 5\), expected \(N, 3, H, W\)"):
        Normalize([0, 0, 0], [1, 1, 1])(np.zeros((2, 4, 5, 5)))
    with pytest.raises(ValueError, match="not empty"):
        Normalize.fit(np.zeros((0, 1, 2, 2)))


def test_an_index_is_an_int():
    data = ArrayDataset(np.arange(3))
    assert data[np.int64(1)] == (1,)
    with pytest.raises(TypeError, match=r"index is slice\(None, 2, None\), expected an int"):
        data[:2]


def test_repr_says_what_is_in_it():
    images, labels = np.zeros((4, 1, 2, 2), np.uint8), np.zeros(4, np.int64)
    assert repr(ArrayDataset(images, labels)) == "ArrayDataset(uint8 (4, 1, 2, 2), int64 (4,))"
    normalise = Normalize(1, 2)
    assert repr(ArrayDataset(images, transform=normalise)) == (
        f"ArrayDataset(uint8 (4, 1, 2, 2), transform={normalise!r})"
    )
