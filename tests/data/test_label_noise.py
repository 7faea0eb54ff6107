import numpy as np
import pytest

from nnk.data import noisy_labels


def test_rate_and_classes():
    labels = np.repeat(np.arange(5), 4000)
    noisy = noisy_labels(labels, 0.3, 5, seed=0)
    assert abs((noisy != labels).mean() - 0.3) < 0.01
    for wrong in range(1, 5):  # each other class alike
        assert abs((noisy[labels == 0] == wrong).mean() - 0.075) < 0.015
    np.testing.assert_array_equal(noisy_labels(labels, 0.3, 5, seed=0), noisy)
    assert (noisy_labels(labels, 1, 5, seed=0) != labels).all()
    np.testing.assert_array_equal(noisy_labels(labels, 0, 5, seed=0), labels)
    assert labels[0] == 0


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint64])
def test_any_integers(dtype):
    labels = np.repeat(np.arange(100), 5)
    noisy = noisy_labels(labels.astype(dtype), 0.5, 100, seed=0)
    assert noisy.dtype == dtype
    np.testing.assert_array_equal(noisy, noisy_labels(labels, 0.5, 100, seed=0))


def test_bad_arguments():
    with pytest.raises(TypeError, match="labels hold float64"):
        noisy_labels(np.array([0.0]), 0.5, 2, seed=0)
    with pytest.raises(ValueError, match="labels hold int8, which has no room for 200 classes"):
        noisy_labels(np.zeros(3, np.int8), 0.5, 200, seed=0)
    with pytest.raises(ValueError, match="classes is 1"):
        noisy_labels(np.array([0]), 0.5, 1, seed=0)
    with pytest.raises(ValueError, match=r"rate is 1\.5"):
        noisy_labels(np.array([0]), 1.5, 2, seed=0)
    with pytest.raises(ValueError, match="labels hold 2 to 2, expected 0 to classes - 1 = 1"):
        noisy_labels(np.array([2]), 0.5, 2, seed=0)
