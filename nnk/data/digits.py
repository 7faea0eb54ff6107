"""The 1,797 handwritten 8×8 digits that scikit-learn ships."""

from __future__ import annotations

import numpy as np

from .datasets import ArrayDataset
from .split import stratified
from .transforms import Normalize


def digits() -> tuple[ArrayDataset, ArrayDataset]:
    """Handwritten digits as ``(train, test)``: images float32 (N, 1, 8, 8), labels int64 (N,) in 0…9.

    The split is fixed and stratified: of each class, the third of every five images, in the order of the data
    set, is a test image (359 of 1,797, 20 %). Images are normalised with the mean and standard deviation of the
    training images.

    Raises:
        ModuleNotFoundError: scikit-learn is not installed.

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning
    Repository, 1998.
    """
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "the digits come with scikit-learn, which is not installed: python -m pip install 'nnk[demo]'"
        ) from error
    bunch = load_digits()
    images = bunch.images.astype(np.float32)[:, None]
    labels = bunch.target.astype(np.int64)
    test = stratified(labels)
    normalize = Normalize.fit(images[~test])
    return (
        ArrayDataset(images[~test], labels[~test], transform=normalize),
        ArrayDataset(images[test], labels[test], transform=normalize),
    )
