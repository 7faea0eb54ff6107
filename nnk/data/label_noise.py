"""Wrong labels, on purpose."""

from __future__ import annotations

import numpy as np


def noisy_labels(labels: np.ndarray, rate: float, classes: int, *, seed: int) -> np.ndarray:
    """Return a copy of the labels (ints) in which each is, with probability ``rate``, another class, all as likely.

    For experiments on how much a model memorises. Softening all labels alike is ``label_smoothing`` of
    `nnk.nn.CrossEntropyLoss`.

    Raises ValueError unless 0 <= rate <= 1, there are two classes and all labels are among them.
    Source: Zhang et al. (2017), "Understanding deep learning requires rethinking generalization", arXiv:1611.03530.
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"rate is {rate}, expected 0 <= rate <= 1")
    labels = np.array(labels)
    if classes < 2 or (labels.size and not 0 <= labels.min() <= labels.max() < classes):
        raise ValueError(f"classes is {classes}, expected at least two, and all labels between 0 and classes - 1")
    rng = np.random.default_rng(seed)
    wrong = rng.random(labels.shape) < rate
    labels[wrong] = (labels[wrong] + rng.integers(1, classes, wrong.sum())) % classes
    return labels
