"""Does the default precision train as strict float32 does? The same ResNet-20, trained in each, loss by loss.

    python bench/precision.py [--steps N] [--batch N] [--out FILE]

Everybody starts from the same weights and sees the same batches: ten smooth patterns of 3 x 32 x 32, moved about, under
noise. No two float32 programs stay together in such a training: rounding errors, of whatever size, grow from step to
step until they have nothing in common but their statistics. How far two runs of *one* precision drift apart when only
the order of their sums differs (by the number of threads) is therefore the yardstick of what a precision may do.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import record
import report

import nnk
from nnk import models, nn, optim

PRECISIONS = ("highest", "high")
CLASSES, SHAPE = 10, (3, 32, 32)
NOISE = 2.0  # of standard deviation, on patterns of 1: hard enough that 200 steps do not end at a loss of 0
OPTIONS = {"lr": 0.02, "momentum": 0.9, "weight_decay": 5e-4}
LINES = 10  # of the table of losses
TESTED = 1000  # images that nobody has trained on


class Data:
    """Batches of images and labels, the same sequence from every instance."""

    def __init__(self):
        self._rng = np.random.default_rng(0)
        rows, columns = np.mgrid[:32, :32] / 32
        u, v, phase = self._rng.uniform(0, 2 * np.pi, (3, CLASSES, 4, *SHAPE[:1], 1, 1))
        self._patterns = np.cos(2 * (u * rows + v * columns) + phase).sum(1) / np.sqrt(2)

    def batch(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Images (size, 3, 32, 32) and labels."""
        labels = self._rng.integers(0, CLASSES, size)
        moves = self._rng.integers(-4, 5, (size, 2))
        images = [np.roll(self._patterns[label], move, (1, 2)) for label, move in zip(labels, moves)]
        return (np.stack(images) + NOISE * self._rng.standard_normal((size, *SHAPE))).astype(np.float32), labels


def run(precision: str, threads: int, steps: int, batch: int) -> Iterator[float]:
    """The loss of every step of a training, at last the loss on images that were not in it."""
    nnk.manual_seed(0)
    nnk.set_num_threads(threads)
    model, criterion, data = models.create("resnet20", SHAPE, CLASSES), nn.CrossEntropyLoss(), Data()
    optimizer = optim.SGD(model.parameters(), **OPTIONS)
    before = nnk.get_precision()
    nnk.set_precision(precision)
    try:
        for _ in range(steps):
            x, labels = data.batch(batch)
            loss = criterion(model(x), labels)
            optimizer.zero_grad()
            model.backward(criterion.backward(), input_grad=False)
            optimizer.step()
            yield float(loss)
        with nnk.no_grad():
            x, labels = data.batch(TESTED)
            yield float(criterion(model.eval()(x), labels))
    finally:
        nnk.set_precision(before)


def curves(steps: int, batch: int, threads: Sequence[int]) -> dict[str, list[float]]:
    """The losses of every run, by its name."""
    return {
        f"{precision}, {n} thread{'s' * (n > 1)}": list(run(precision, n, steps, batch))
        for precision in PRECISIONS
        for n in threads
    }


def table(runs: Mapping[str, Sequence[float]]) -> report.Table:
    """Mean losses over a tenth of the steps each, and the last one, on new images."""
    steps = len(next(iter(runs.values()))) - 1
    lines = [["steps", *runs]]
    for part in np.array_split(np.arange(steps), LINES):
        means = (np.take(curve, part).mean() for curve in runs.values())
        lines.append([f"{part[0] + 1} - {part[-1] + 1}", *(f"{mean:.4f}" for mean in means)])
    return [*lines, ["new images", *(f"{curve[-1]:.4f}" for curve in runs.values())]]


def differences(runs: Mapping[str, Sequence[float]]) -> report.Table:
    """For every two runs how far their losses are apart: in the first steps, over all, and in their mean."""
    lines = [["", "and", "first step", "10 steps", "all steps, RMS", "second half, mean", "new images"]]
    for a, b in combinations(runs, 2):
        *d, last = np.subtract(runs[b], runs[a])
        cells = abs(d[0]), np.abs(d[:10]).max(), np.sqrt(np.mean(np.square(d))), np.mean(d[len(d) // 2 :]), last
        lines.append([a, b, *(f"{cell:.1e}" for cell in cells)])
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Train in each precision with one thread and with all; print both tables and keep the losses of a full run."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    parser = argparse.ArgumentParser(prog="python bench/precision.py", description="Train in each precision.")
    parser.add_argument("--steps", type=int, default=200, metavar="N")
    parser.add_argument("--batch", type=int, default=128, metavar="N", help="images in each (default 128)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="JSON (default of a full run: bench/results/)")
    options = parser.parse_args(arguments)
    threads = list(dict.fromkeys([1, os.cpu_count()]))
    runs = curves(options.steps, options.batch, threads)
    print(f"{report.text(table(runs))}\n\n{report.text(differences(runs))}")
    out = options.out or (None if arguments else record.RESULTS / "precision.json")
    if out is not None:
        command = shlex.join(["python", "bench/precision.py", *arguments])
        losses = {name: [float(f"{loss:.6g}") for loss in curve] for name, curve in runs.items()}
        record.write(out, record.record(command, [], {}, losses=losses))
        print(f"\nwritten to {out}")


if __name__ == "__main__":
    main()
