"""Which classes a classifier takes for which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nnk.nn.arguments import integer


def confusion_matrix(output: np.ndarray, target: np.ndarray, classes: int | None = None) -> np.ndarray:
    """Return counts (classes, classes), int64: row t, column p holds how many samples of class t were taken for p.

    Args:
        output: logits or probabilities (N, C), or predicted classes (N,).
        target: the true classes (N,), ints.
        classes: how many there are; None is C, or with predicted classes one more than the largest.

    Raises ValueError for shapes that do not fit and for classes out of range.
    """
    output, target = np.asarray(output), np.asarray(target)
    if output.ndim not in (1, 2) or target.shape != output.shape[:1]:
        raise ValueError(
            f"output has shape {output.shape} and target {target.shape}, expected (N, C) or (N,), and (N,)"
        )
    if output.ndim == 2:
        classes = output.shape[1] if classes is None else classes
        output = output.argmax(1)
    elif classes is None:
        classes = int(max(output.max(initial=-1), target.max(initial=-1))) + 1
    integer(classes, "classes", least=1)
    for name, values in (("output", output), ("target", target)):
        if values.size and not 0 <= values.min() <= values.max() < classes:
            raise ValueError(f"{name} holds class {values.min()} to {values.max()}, expected 0 to {classes - 1}")
    return np.bincount(target * classes + output, minlength=classes**2).reshape(classes, classes)


def plot_confusion(matrix: np.ndarray, names: Sequence[str] | None = None) -> Any:
    """Return a matplotlib figure: each row's shares as colours, the counts as numbers.

    Raises ModuleNotFoundError without matplotlib.
    """
    from matplotlib.figure import Figure

    classes = len(matrix)
    names = [str(i) for i in range(classes)] if names is None else list(names)
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    side = 2 + 0.45 * classes
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for t in range(classes):
        for p in range(classes):
            if matrix[t, p]:
                colour = "white" if shares[t, p] > 0.5 else "black"
                axes.text(p, t, str(matrix[t, p]), ha="center", va="center", color=colour, fontsize=8)
    axes.set(
        xticks=range(classes), yticks=range(classes), xticklabels=names, yticklabels=names, xlabel="taken for",
        ylabel="is", title=f"{np.trace(matrix)} of {matrix.sum()} right",
    )
    return figure
