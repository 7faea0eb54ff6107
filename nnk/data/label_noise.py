"""Wrong labels, on purpose."""

from __future__ import annotations

import numpy as np

from nnk.nn.arguments import integer, number


def noisy_labels(labels: np.ndarray, rate: float, classes: int, *, seed: int) -> np.ndarray:
    """Return a copy of the labels in which each is, with probability ``rate``, another class, all as likely.

    For experiments on how much a model memorises. Softening all labels alike is ``label_smoothing`` of
    `nnk.nn.CrossEntropyLoss`.

    Args:
        labels: classes, ints of any shape; their dtype is kept.
        rate: the probability of a wrong label.
        classes: how many classes there are.
        seed: of the draw.

    Raises:
        TypeError: labels or ``classes`` that are no ints, a rate that is no number.
        ValueError: a rate outside [0, 1], fewer than two classes, a label outside [0, classes), a dtype
            too small for all classes.

    Source: Zhang et al. (2017), "Understanding deep learning requires rethinking generalization", arXiv:1611.03530.
    """
    if not 0 <= number(rate, "rate") <= 1:
        raise ValueError(f"rate is {rate}, expected 0 <= rate <= 1")
    integer(classes, "classes", least=2)
    labels = np.array(labels)
    if labels.dtype.kind not in "iu":
        raise TypeError(f"labels hold {labels.dtype}, expected ints")
    if labels.size and not 0 <= labels.min() <= labels.max() < classes:
        raise ValueError(f"labels hold {labels.min()} to {labels.max()}, expected 0 to classes - 1 = {classes - 1}")
    if classes - 1 > np.iinfo(labels.dtype).max:
        raise ValueError(f"labels hold {labels.dtype}, which has no room for {classes} classes")
    rng = np.random.default_rng(seed)
    wrong = rng.random(labels.shape) < rate
    labels[wrong] = (labels[wrong].astype(np.int64) + rng.integers(1, classes, wrong.sum())) % classes
    return labels
