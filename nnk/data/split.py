"""Which samples of a data set without test samples of its own are kept for the test."""

from __future__ import annotations

import numpy as np

TEST_EVERY = 5


def stratified(labels: np.ndarray) -> np.ndarray:
    """Mark one in `TEST_EVERY` samples of each class; needs no random numbers, so it never changes."""
    test = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        test[np.flatnonzero(labels == label)[TEST_EVERY // 2 :: TEST_EVERY]] = True
    return test
