"""Every op of the registry against this machine's limits and against PyTorch, where it is installed.

    python bench/ops.py [--op NAME ...] [--threads N] [--quick] [--out FILE]

Shapes come from `kernels/cases/`, the same functions in PyTorch from `peers.py`; PyTorch counts at the better of its
two memory formats. How times are taken, and what they are worth, stands in `harness.py`.
"""

from __future__ import annotations

import argparse
import functools
from pathlib import Path
from types import ModuleType
from typing import Any

import harness
import numpy as np
import roofline

from nnk.kernels import cpu, parity
from nnk.kernels.cases._suite import Case
from nnk.kernels.cpu import _driver, _layout
from nnk.kernels.ops import OPS, Op

RESULTS = Path(__file__).parent / "results"


def load_peers() -> ModuleType | None:
    """The ops in PyTorch, or None where it is not installed."""
    try:
        import peers
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        return None
    return peers


class Recorder:
    """Stands in for a backend: passes calls on, and keeps the first call of each function for the clock."""

    def __init__(self, backend: Any):
        self.backend, self.calls = backend, {}

    def __getattr__(self, name: str) -> Any:
        function = getattr(self.backend, name)

        def call(*args, **kwargs):
            self.calls.setdefault(name, functools.partial(function, *args, **kwargs))
            return function(*args, **kwargs)

        return call


def _pooled(value: Any) -> Any:
    """Arrays, also in lists, in memory like that of any result: aligned, images channels-last."""
    if isinstance(value, list):
        return [_pooled(item) for item in value]
    if not isinstance(value, np.ndarray):
        return value
    copy = _layout.empty_like(value)
    copy[...] = value
    return copy


def measure(op: Op, case: Case, peers: ModuleType | None, **sampling: float) -> list[harness.Row]:
    """Time every function of an op on one case, in turns with its peers."""
    inputs = parity.make_inputs(case, np.float32)
    costs = op.suite.cost(**inputs)
    recorders = {"ours": Recorder(cpu)}
    op.suite.run(recorders["ours"], **{name: _pooled(value) for name, value in inputs.items()})
    if peers is not None and all(hasattr(peers, function) for function in op.functions):
        is_image = any(isinstance(value, np.ndarray) and value.ndim == 4 for value in inputs.values())
        for layout in peers.FORMATS if is_image else ["contiguous"]:
            recorders[f"torch {layout}"] = recorder = Recorder(peers)
            op.suite.run(recorder, **{name: peers.tensors(value, layout) for name, value in inputs.items()})
    rows = []
    for function in op.functions:
        calls = {name: recorder.calls[function] for name, recorder in recorders.items()}
        timings = harness.interleave(calls, **sampling)
        cost = costs[function]
        rows.append(harness.Row(function, case.name, cost.bytes, cost.flops, timings.pop("ours"), timings))
    return rows


def main(arguments: list[str] | None = None) -> None:
    """Measure, print a table, and keep a complete run in `bench/results/`."""
    names = [op.name for op in OPS]
    parser = argparse.ArgumentParser(prog="nnk bench", description="Time every op against its limits and PyTorch.")
    parser.add_argument("--op", action="append", choices=names, metavar="NAME", help=f"one of {', '.join(names)}")
    parser.add_argument("--threads", type=int, metavar="N", help="threads of every library (default: all cores)")
    parser.add_argument("--quick", action="store_true", help="one shape of each op, few samples")
    parser.add_argument("--out", type=Path, metavar="FILE", help="JSON; a complete run goes to bench/results/ anyway")
    options = parser.parse_args(arguments)
    if options.threads is not None:
        if options.threads < 1:
            parser.error(f"argument --threads: {options.threads} is less than 1")
        _driver.set_num_threads(options.threads)
    threads = _driver.get_num_threads()
    peers = load_peers()
    if peers is None:
        print("torch is not installed: no peer to compare with")
    else:
        peers.use_threads(threads)
    sampling = {"seconds": 0.1, "least": 3} if options.quick else {}
    limits = roofline.measure(threads, samples=2 if options.quick else 7)
    print(f"{harness.machine()['cpu']}, {threads} threads: copy {limits.bandwidth / 1e9:.1f} GB/s, "
          f"FMA peak {limits.peak / 1e9:.0f} GFLOP/s")
    print(harness.header())
    rows = []
    for op in OPS:
        if options.op is None or op.name in options.op:
            for case in op.suite.bench[:1] if options.quick else op.suite.bench:
                for row in measure(op, case, peers, **sampling):
                    print(harness.line(row, limits), flush=True)
                    rows.append(row)
    complete = options.op is None and not options.quick
    out = options.out or (RESULTS / f"ops_{threads}_threads.json" if complete else None)
    if out is not None:
        harness.write(out, harness.record(rows, limits))
        print(f"written to {out}")


if __name__ == "__main__":
    main()
