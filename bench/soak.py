"""Training for a long time with batches of changing size: does memory stay flat?

    python bench/soak.py MINUTES [--network NAME] [--largest N] [--threads N]

Every step draws the size of its batch anew, evaluations come between, and every so often the resident memory is
printed. After a tenth of the time all has been seen; from there on growth is a leak. Exits 1 if memory grew by more
than a twentieth (and 8 MB) between the first and the last third of the rest.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import nnk
from nnk import models, nn, optim

LINES = 60  # of output
WARM_UP = 0.1  # of the time
ALLOWED = 0.05
SLACK = 8 << 20


def resident() -> int:
    """Bytes of this process in memory now (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def growth(samples: Sequence[tuple[float, int]]) -> tuple[float, float]:
    """Mean memory in the first and in the last third of the (time, bytes) samples, warm-up left out."""
    end = samples[-1][0]
    steady = [size for moment, size in samples if moment >= WARM_UP * end]
    third = max(1, len(steady) // 3)
    return float(np.mean(steady[:third])), float(np.mean(steady[-third:]))


def train(seconds: float, network: str, largest: int) -> list[tuple[float, int]]:
    """Train, printing (minutes, steps, MB) now and then; returns (time, bytes) of every second or so."""
    shape = (1, 8, 8) if network == "digits_cnn" else (3, 32, 32)
    rng = np.random.default_rng(0)
    images, labels = rng.standard_normal((largest, *shape), np.float32), rng.integers(0, 10, largest)
    model, criterion = models.create(network, shape, 10), nn.CrossEntropyLoss()
    optimizer = optim.SGD(model.parameters(), 1e-3, momentum=0.9)

    def step(batch: int, training: bool) -> None:
        model.train(training)
        criterion(model(images[:batch]), labels[:batch])
        if training:
            optimizer.zero_grad()
            model.backward(criterion.backward(), input_grad=False)
            optimizer.step()

    def evaluate(batch: int) -> None:
        with nnk.no_grad():
            step(batch, training=False)

    step(largest, training=True)  # compiles
    evaluate(largest)
    start, samples, steps, printed = time.perf_counter(), [], 0, 0
    while (now := time.perf_counter() - start) < seconds:
        if not samples or now - samples[-1][0] >= min(1.0, seconds / 100):
            samples.append((now, resident()))
            if now >= printed * seconds / LINES:
                printed += 1
                print(f"{now / 60:7.2f} min {steps:9,} steps {samples[-1][1] / 1e6:8.1f} MB", flush=True)
        batch = int(rng.integers(1, largest + 1))
        if steps % 10 == 9:
            evaluate(batch)
        else:
            step(batch, training=True)
        steps += 1
    return samples


def main(arguments: Sequence[str] | None = None) -> int:
    """Train for the minutes asked for and judge."""
    parser = argparse.ArgumentParser(prog="python bench/soak.py", description="Train long, and watch memory.")
    parser.add_argument("minutes", type=float)
    parser.add_argument("--network", default="resnet20", choices=models.names(), metavar="NAME")
    parser.add_argument("--largest", type=int, default=64, metavar="N", help="images in the largest batch (default 64)")
    parser.add_argument("--threads", type=int, metavar="N", help="(default: all cores)")
    options = parser.parse_args(arguments)
    if options.threads is not None:
        nnk.set_num_threads(options.threads)
    before, after = growth(train(60 * options.minutes, options.network, options.largest))
    flat = after <= before * (1 + ALLOWED) + SLACK
    print(f"{before / 1e6:.1f} MB, then {after / 1e6:.1f} MB: {'flat' if flat else 'GROWN'}")
    return 0 if flat else 1


if __name__ == "__main__":
    sys.exit(main())
