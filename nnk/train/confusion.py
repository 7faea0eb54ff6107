"""Which classes a classifier takes for which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nnk import backend
from nnk.nn.arguments import integer

_MOST_NUMBERS = 30  # classes up to which the picture shows counts: they cannot be read in smaller squares


def confusion_matrix(output: Any, target: Any, classes: int | None = None) -> np.ndarray:
    """Return counts (classes, classes), int64: row t, column p holds how many samples of class t were taken for p.

    Args:
        output: logits or probabilities (N, C), or predicted classes (N,).
        target: the true classes (N,), ints.
        classes: how many there are; None is C, or with predicted classes one more than the largest.

    Raises ValueError for shapes that do not fit and for classes out of range, TypeError for classes that are no ints.
    """
    output, target = (backend.asarray_on(backend.as_array(array), "cpu") for array in (output, target))
    if output.ndim not in (1, 2) or target.shape != output.shape[:1]:
        raise ValueError(
            f"output has shape {output.shape} and target {target.shape}, expected (N, C) or (N,), and (N,)"
        )
    if output.ndim == 2:
        classes = output.shape[1] if classes is None else classes
        output = output.argmax(1)
    elif classes is None:
        classes = int(max(output.max(initial=0), target.max(initial=0))) + 1
    integer(classes, "classes", least=1)
    for name, values in (("output", output), ("target", target)):
        if values.dtype.kind not in "iu":
            raise TypeError(f"{name} holds {values.dtype}, expected classes as ints")
        if values.size and not 0 <= values.min() <= values.max() < classes:
            raise ValueError(f"{name} holds class {values.min()} to {values.max()}, expected 0 to {classes - 1}")
    cells = target.astype(np.int64) * classes + output.astype(np.int64)  # of 8 bits, they would overflow
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes).astype(np.int64, copy=False)


def plot_confusion(matrix: np.ndarray, names: Sequence[str] | None = None) -> Any:
    """Return a matplotlib figure: the shares of each true class as colours, the counts as numbers.

    The colours follow the root of the share, so that rare mistakes are seen. More than 30 classes get no numbers.

    Args:
        matrix: counts (classes, classes) from `confusion_matrix`.
        names: of the classes; None numbers them.

    Raises ModuleNotFoundError without matplotlib, ValueError for a matrix that is not square and for another number
    of names.
    """
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure

    matrix = np.asarray(matrix)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
        raise ValueError(f"matrix has shape {matrix.shape}, expected (classes, classes)")
    classes = len(matrix)
    names = [str(i) for i in range(classes)] if names is None else [str(name) for name in names]
    if len(names) != classes:
        raise ValueError(f"names has {len(names)} names, expected {classes}, one for each class")
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    side = min(2.8 + 0.5 * classes, 12)
    figure = Figure(figsize=(side + 0.8, side), layout="compressed")
    axes = figure.subplots()
    picture = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, 0, 1))
    bar = figure.colorbar(picture, ax=axes, label="share of the true class", shrink=0.8)
    bar.set_ticks([0, 0.01, 0.05, 0.2, 0.5, 1], labels=["0", "1 %", "5 %", "20 %", "50 %", "100 %"])
    if classes <= _MOST_NUMBERS:
        size = max(5.0, min(9.0, 220 / classes / max(len(str(matrix.max())), 2)))
        for t, p in np.argwhere(matrix):
            colour = "white" if shares[t, p] > 0.3 else "black"
            axes.text(p, t, str(matrix[t, p]), ha="center", va="center", color=colour, fontsize=size)
    ticks = range(0, classes, -(-classes // 50))
    labels = [names[i] for i in ticks]
    long = max(map(len, labels)) > 3 or classes > _MOST_NUMBERS
    axes.set_xticks(ticks, labels, rotation=90 if long else 0)
    axes.set_yticks(ticks, labels)
    axes.tick_params(labelsize=10 if classes <= _MOST_NUMBERS else 7)
    right, total = np.trace(matrix), matrix.sum()
    title = f"{right} of {total} right: {100 * right / max(total, 1):.1f} %"
    axes.set(xlabel="predicted class", ylabel="true class", title=title)
    return figure
