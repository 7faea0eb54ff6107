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


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"rate is 1\.5"):
        noisy_labels(np.array([0]), 1.5, 2, seed=0)
    with pytest.raises(ValueError, match="classes is 2"):
        noisy_labels(np.array([2]), 0.5, 2, seed=0)
