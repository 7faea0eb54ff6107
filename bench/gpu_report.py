"""What the GPU benches found: rows, targets, one table of all.

    python bench/gpu_report.py DIR        the table of the runs in a folder (default: bench/results)
    python bench/gpu_report.py --rows DIR       with every row

`share` is the time that this device's copy bandwidth and matmul rate, measured in the same run, allow over ours. `best`
is our time over that of the fastest peer, `eager` over PyTorch's without torch.compile and CUDA graphs; below 1 we are
faster. `queue` is the host's time for a call, `error` the worst of our errors against float64 over PyTorch's.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import record
from gpu import Limits
from harness import Comparison, Timing
from report import Table, text

ACTIVATION = "activation"
BATCH_NORM = "batch norm, training"
BATCH_NORM_RELU = "batch norm + ReLU"
BATCH_NORM_RELU_PAIR = "batch norm + ReLU, both ways"
POOL = "pool"
CROSS_ENTROPY = "cross-entropy"
DROPOUT = "dropout"
SOFTMAX = "softmax"
OPTIMISER = "Adam and SGD"
LINEAR = "linear"
OTHER = "other operation"
BLOCK = "convolution, batch norm and ReLU in training"
LAUNCH = "launch of a kernel"
STEP = "training step"
SMALL_STEP = "training step of ResNet-20"
STEP_EAGER = "training step without a graph"
START = "process, to its first step"


@dataclass(frozen=True)
class Target:
    """What the geometric means over a line of the table are to reach; a field that is None asks for nothing."""

    share: float | None = None  # at least
    best: float | None = None  # at most
    eager: float | None = None  # at most
    queue: float | None = None  # seconds, at most
    error: float | None = None  # at most; the worst of the line


DIRECTIONS = ("forward", "input gradient", "weight gradient")
CONV_TARGETS = (("highest", 1 / 0.8), ("tf32", 1.0), ("float16", 1.0), ("bfloat16", 1.0))


def conv(precision: str, direction: str) -> str:
    """The class of a convolution."""
    return f"convolution, {precision}, {direction}"


RUNG_TARGETS = {"first": 1.0, "mma": 1 / 0.6, "wgmma": 1 / 0.8, "tma": 1.0}
"""Our time over cuDNN's for the kernels of `kernels/cuda/_chooser.py`, each for itself, at most."""


def rung(name: str) -> str:
    """The class of convolutions on tensor cores by one of those kernels, chosen or not."""
    return f"convolution on {name}"


def depthwise(kernel: int, direction: str) -> str:
    """The class of a convolution with one channel a group, which no tensor core takes: by its window alone."""
    return f"depthwise {kernel}×{kernel}, {direction}"


MEMORY_BOUND = Target(share=0.9, best=1.0)

TARGETS = {
    LAUNCH: Target(queue=3e-6),
    ACTIVATION: MEMORY_BOUND,
    BATCH_NORM: MEMORY_BOUND,
    BATCH_NORM_RELU: MEMORY_BOUND,
    BATCH_NORM_RELU_PAIR: Target(eager=0.6),
    POOL: MEMORY_BOUND,
    CROSS_ENTROPY: MEMORY_BOUND,
    DROPOUT: MEMORY_BOUND,
    SOFTMAX: MEMORY_BOUND,
    OPTIMISER: Target(best=0.95),
    LINEAR: Target(),
    OTHER: Target(),
    **{conv(name, direction): Target(best=most, error=1.5) for name, most in CONV_TARGETS for direction in DIRECTIONS},
    **{rung(name): Target(best=most) for name, most in RUNG_TARGETS.items()},
    **{depthwise(kernel, direction): MEMORY_BOUND for kernel in (3, 5) for direction in DIRECTIONS},
    **{depthwise(7, direction): Target(best=1.0) for direction in DIRECTIONS},  # arithmetic bound
    BLOCK: Target(eager=1.0),
    SMALL_STEP: Target(eager=0.5),
    STEP: Target(),
    STEP_EAGER: Target(),
    START: Target(),
}
"""The classes in the order of the table."""


@dataclass(frozen=True)
class GpuRow(Comparison):
    """One function on one shape and dtype; `precision` names the matmul rate that its FLOPs are held against.

    `group` is a class of `TARGETS`; `queue` are the host's seconds for a call; `more` are other numbers, by what they
    say and by library, ours as "ours".
    """

    group: str
    name: str
    shape: str
    dtype: str
    precision: str
    bytes: int
    flops: int
    queue: float
    ours: Timing
    peers: dict[str, Timing] = field(default_factory=dict)
    more: dict[str, dict[str, float]] = field(default_factory=dict)

    def error(self) -> float | None:
        """Our error over the least of the peers', where both are known."""
        found = self.more.get("error", {})
        peers = [value for name, value in found.items() if name != "ours"]
        return found["ours"] / min(peers) if peers else None

    def share(self, limits: Limits) -> float | None:
        """The time that the limits allow over ours."""
        if not (self.bytes or self.flops):
            return None
        return limits.least(self.bytes, self.flops, self.precision) / self.ours.median


# ---------------------------------------------------------------- one row, as it comes
HEADER = (
    f"{'class':38}{'function':34}{'shape':34}{'dtype':10}{'ms':>9}{'±':>5}{'GB/s':>7}{'TFLOP/s':>8}{'share':>6}"
    f"{'best':>6}{'eager':>6}{'queue µs':>9}"
)


def line(row: GpuRow, limits: Limits) -> str:
    """One row; `±` is half the spread of the samples."""
    seconds = row.ours.median
    spread = (row.ours.p80 - row.ours.p20) / seconds / 2
    cells = (
        f"{row.group:38}{row.name:34}{row.shape:34}{row.dtype:10}{1e3 * seconds:9.3f}{spread:5.0%}"
        f"{row.bytes / seconds / 1e9:7.0f}{row.flops / seconds / 1e12:8.2f}"
        f"{_percent(row.share(limits)):>6}{_ratio(row.ratio(None)):>6}{_ratio(row.ratio()):>6}{1e6 * row.queue:9.1f}"
    )
    best = row.best(None)
    return cells if best is None else f"{cells} {best}, {1e3 * row.peers[best].median:.3f} ms"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.0%}"


def _ratio(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}"


# ---------------------------------------------------------------- the table
def table(rows: Iterable[tuple[GpuRow, Limits]]) -> Table:
    """A line for each class and dtype: geometric means, the worst in brackets, against the targets."""
    lines = [["class", "dtype", "rows", "GB/s", "TFLOP/s", "share", "best", "eager", "queue µs", "error", "target", ""]]
    found: dict[tuple[str, str], list[tuple[GpuRow, Limits]]] = {}
    for row, limits in rows:
        found.setdefault((row.group, row.dtype), []).append((row, limits))
    order = list(TARGETS)
    for (group, dtype), here in sorted(found.items(), key=lambda item: order.index(item[0][0])):
        shares = _present(row.share(limits) for row, limits in here)
        best, eager = (_present(row.ratio(library) for row, _ in here) for library in (None, "torch"))
        queue = float(np.median([row.queue for row, _ in here]))
        error = max(_present(row.error() for row, _ in here), default=None)
        target = TARGETS[group]
        lines.append([
            group, dtype, str(len(here)),
            _speed([row.bytes / row.ours.median / 1e9 for row, _ in here], ".0f"),
            _speed([row.flops / row.ours.median / 1e12 for row, _ in here], ".1f"),
            _mean(shares, min, ".0%"), _mean(best, max, ".2f"), _mean(eager, max, ".2f"), f"{1e6 * queue:.1f}",
            _ratio(error), *_verdict(target, shares, best, eager, queue, error),
        ])
    return lines


def _present(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _geometric(values: Sequence[float]) -> float:
    return float(np.exp(np.mean(np.log(values))))


def _speed(values: Sequence[float], form: str) -> str:
    values = [value for value in values if value]
    return format(_geometric(values), form) if values else ""


def _mean(values: Sequence[float], worst: Any, form: str) -> str:
    return f"{_geometric(values):{form}} ({worst(values):{form}})" if values else ""


def _verdict(
    target: Target, shares: Sequence[float], best: Sequence[float], eager: Sequence[float], queue: float,
    error: float | None,
) -> tuple[str, str]:
    """What is asked for, and whether the line reaches it; nothing where what it asks for was not measured."""
    asked, passed = [], []
    if target.share is not None:
        asked.append(f"share ≥ {target.share:.0%}")
        passed.append(_geometric(shares) >= target.share if shares else None)
    for name, most, values in (("best", target.best, best), ("eager", target.eager, eager)):
        if most is not None:
            asked.append(f"{name} ≤ {most:.2f}")
            passed.append(_geometric(values) <= most if values else None)
    if target.queue is not None:
        asked.append(f"queue ≤ {1e6 * target.queue:g} µs")
        passed.append(queue <= target.queue)
    if target.error is not None:
        asked.append(f"error ≤ {target.error:g}")
        passed.append(None if error is None else error <= target.error)
    verdict = "" if None in passed or not asked else "pass" if all(passed) else "miss"
    return ", ".join(asked), verdict


# ---------------------------------------------------------------- what is kept
def content(command: str, device: Mapping[str, Any], limits: Limits, rows: Sequence[GpuRow], **more: Any) -> dict:
    """A run as it is written: the rows, and on which device, with which versions they were measured."""
    return {
        **record.origin(command),
        "device": dict(device),
        "limits": asdict(limits),
        **more,
        "rows": [
            {**asdict(row), "ratio": row.ratio(None), "ratio_eager": row.ratio(), "share": row.share(limits)}
            for row in rows
        ],
    }


def rows_of(run: Mapping[str, Any]) -> list[tuple[GpuRow, Limits]]:
    """The rows of such a run, each with the limits that it was measured beside."""
    limits, rows = Limits(**run["limits"]), []
    for entry in run["rows"]:
        fields = {name: value for name, value in entry.items() if name not in ("ratio", "ratio_eager", "share")}
        peers = {name: Timing(**timing) for name, timing in fields.pop("peers").items()}
        rows.append((GpuRow(**{**fields, "ours": Timing(**fields["ours"])}, peers=peers), limits))
    return rows


def load(folder: Path) -> list[dict[str, Any]]:
    """The runs in a folder."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("gpu_*.json"))]


def extras(run: Mapping[str, Any]) -> list[str]:
    """What a run says besides its rows: what was left out or failed."""
    return [f"{kind}: {what}: {why}" for kind in ("left out", "failed") for what, why in run[kind].items()]


def beside(rows: Iterable[GpuRow]) -> Table:
    """What rows hold of each library besides times: peak memory, the first step."""
    lines = [["", "dtype", "", "ours", "peers"]]
    for row in rows:
        for what, values in row.more.items():
            if what == "error":  # stands in the table
                continue
            peers = ", ".join(f"{name} {value:.2f}" for name, value in values.items() if name != "ours")
            lines.append([row.shape, row.dtype, what, f"{values['ours']:.2f}", peers])
    return lines if len(lines) > 1 else []


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python bench/gpu_report.py", description="The table of the GPU benches.")
    parser.add_argument("folder", type=Path, nargs="?", default=record.RESULTS, metavar="DIR")
    parser.add_argument("--rows", action="store_true", help="every row as well")
    options = parser.parse_args(arguments)
    runs = load(options.folder)
    if not runs:
        parser.error(f"{options.folder} holds no gpu_*.json")
    rows = [pair for run in runs for pair in rows_of(run)]
    if options.rows:
        print(HEADER, *(line(*pair) for pair in rows), sep="\n", end="\n\n")
    for run in runs:
        print(f"{run['device'].get('gpu')}, {run['date'][:10]}, {run['command']}: {Limits(**run['limits'])}")
        counts = ", ".join(f"{len(run[kind])} {kind}" for kind in ("left out", "failed") if run[kind])
        if counts:
            print(f"  {counts}: see the file")
    print(f"\n{text(table(rows))}")
    more = beside(row for row, _ in rows)
    if more:
        print(f"\n{text(more)}")


if __name__ == "__main__":
    main()
