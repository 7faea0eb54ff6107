"""Whole training steps on a GPU, through `nnk.train.Trainer`, against PyTorch.

    python bench/gpu_step.py [--only TEXT ...] [--seconds N] [--out FILE]

nnk repeats the step as a CUDA graph, and runs it without one; PyTorch runs eagerly in both memory formats, as a CUDA
graph, and through torch.compile where there is time for it. Everyone starts from the same weights, and the first losses
must agree. Beside the times stand the way to the first step's end, in a process that has everything imported and as a
whole process, and the device memory that each took.
"""

from __future__ import annotations

import functools
import inspect
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import gpu_report
import numpy as np
from gpu_report import GpuRow
from gpu_session import Session
from harness import Timing, interleave
from workload import Workload

import nnk
from nnk import nn, optim, train

SECONDS = 150
SAMPLES = 7
SAMPLE = 0.15  # seconds of steps in a row that make one sample
BATCHES = {"resnet20": 128, "resnet18": 512, "resnet50": 64}
WORKLOADS = {w.name: w for w in (Workload(network, n, "SGD") for network, n in BATCHES.items())}
START = "start of a process"
COMPILING = {"resnet20": 40.0, "resnet18": 40.0, "resnet50": 80.0}  # seconds that must be left for torch.compile
MEASURING = 10.0  # seconds that must be left for a workload in one precision
STARTING = 30.0  # seconds that must be left for the processes
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Mode:
    """Images' dtype, nnk's precision, its trainer's options, may PyTorch use TF32, how near must the losses be?"""

    dtype: str
    precision: str
    options: Mapping[str, str]
    tf32: bool
    agreement: float


MODES = {
    "float32": Mode("float32", "highest", {}, False, 1e-3),
    "tf32": Mode("float32", "high", {}, True, 1e-2),
    "bfloat16": Mode("bfloat16", "high", {"precision": "bf16"}, True, 3e-2),
}


class Side(Protocol):
    """One library that trains a network."""

    def run(self, steps: int) -> None:
        """Queue so many steps."""

    def loss(self) -> float:
        """The loss of the first step of the last run; waits for it."""


# ---------------------------------------------------------------- nnk
class Stamps(train.Callback):
    """When the host was done with each step."""

    def __init__(self):
        self.times: list[float] = []

    def batch_end(self, trainer: train.Trainer, samples: int) -> None:
        self.times.append(time.perf_counter())


class Ours:
    """Steps of a `Trainer` on one batch."""

    def __init__(self, workload: Workload, gpu: Any, options: Mapping[str, Any]):
        model = workload.model().to(gpu.device)
        self.stamps = Stamps()
        self.trainer = train.Trainer(
            model, optimizer=getattr(optim, workload.optimizer)(model.parameters(), **workload.options),
            loss=nn.CrossEntropyLoss(), metrics={}, callbacks=[self.stamps], **options,
        )  # fmt: skip
        self.batch = tuple(map(gpu.array, workload.data()))

    def run(self, steps: int) -> None:
        self.stamps.times.clear()
        self.trainer.fit([self.batch] * steps, epochs=1)

    def loss(self) -> float:
        return self.trainer.history[-1]["loss"]

    def host(self) -> float:
        """The host's seconds for a step of the last run."""
        return float(np.median(np.diff(self.stamps.times)))


def graph_options() -> list[tuple[str, dict[str, Any]]]:
    """The ways in which this trainer repeats a step."""
    if "graph" not in inspect.signature(train.Trainer).parameters:
        return [("eager", {})]
    return [("graph", {"graph": True}), ("eager", {"graph": False})]


def modes(session: Session) -> dict[str, Mode]:
    """The precisions that this nnk trains in."""
    options, found = inspect.signature(train.Trainer).parameters, {}
    for name, mode in MODES.items():
        if mode.tf32 and not session.gpu.tensor_cores(mode.dtype, mode.precision):
            session.leave_out(f"steps in {name}", "the backend has strict float32 alone for it")
        elif not mode.options.keys() <= options.keys():
            session.leave_out(f"steps in {name}", f"Trainer takes no {', '.join(mode.options)}")
        else:
            found[name] = mode
    return found


# ---------------------------------------------------------------- PyTorch
class Theirs:
    """Steps of PyTorch on one batch, in one of the `ways`."""

    ways = ("torch", "torch.graph", "torch.compile")

    def __init__(self, workload: Workload, device: str, layout: str, way: str, bfloat16: bool):
        import torch
        from step_torch import FORMATS, twin

        source = workload.model()
        model = twin(source)
        model.load_state_dict({key: torch.from_numpy(value) for key, value in source.state_dict().items()})
        model = model.to(device, memory_format=FORMATS[layout])
        optimizer = getattr(torch.optim, workload.optimizer)(model.parameters(), fused=True, **workload.options)
        x, labels = (torch.from_numpy(value).to(device) for value in workload.data())
        x, criterion = x.contiguous(memory_format=FORMATS[layout]), torch.nn.CrossEntropyLoss()
        forward = torch.compile(model) if way == "torch.compile" else model

        def step() -> Any:
            optimizer.zero_grad()
            with torch.autocast(device, torch.bfloat16, enabled=bfloat16, cache_enabled=way != "torch.graph"):
                loss = criterion(forward(x), labels)
            loss.backward()
            optimizer.step()
            return loss.detach()

        self.step, self.first = step, None
        self.captures = way == "torch.graph"

    def run(self, steps: int) -> None:
        if self.captures and self.first is not None:
            self._capture()
        losses = [self.step() for _ in range(steps)]
        self.first = losses[0]

    def loss(self) -> float:
        return float(self.first)

    def _capture(self) -> None:
        """Replace the step by its graph, after some on another stream as PyTorch's documentation has it."""
        import torch

        self.captures, eager = False, self.step
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                eager()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            loss = eager()

        def replay() -> Any:
            graph.replay()
            return loss

        self.step = replay


def opponents(workload: Workload, name: str, session: Session) -> dict[str, Callable[[], Side]]:
    """How each peer is made."""
    device = session.gpu.device
    make = functools.partial(Theirs, workload, device, bfloat16=name == "bfloat16")
    found = {f"torch {layout}": functools.partial(make, layout, "torch") for layout in ("contiguous", "channels_last")}
    if device == "cuda":
        found["torch.graph channels_last"] = functools.partial(make, "channels_last", "torch.graph")
    if session.has_time(f"torch.compile of {workload.network} in {name}", COMPILING[workload.network]):
        found["torch.compile channels_last"] = functools.partial(make, "channels_last", "torch.compile")
    return found


def allow_tf32(allowed: bool) -> None:
    """Let PyTorch round float32 to TF32 in products and convolutions, or forbid it."""
    torch = import_module("torch")
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark = allowed, True


# ---------------------------------------------------------------- measuring
def begin(make: Callable[[], Side], gpu: Any) -> tuple[Side, dict[str, float], float]:
    """A side after its first steps, what they took by what it says, and the first loss."""
    gpu.free()
    before, start = gpu.available(), time.perf_counter()
    side = make()
    side.run(1)
    loss = side.loss()
    took = {"s to the first step": time.perf_counter() - start}
    for _ in range(2):
        side.run(3)  # what repeats a graph captures it here
    gpu.wait()
    return side, took | {"GB of memory": (before - gpu.available()) / 1e9}, loss


def measure(workload: Workload, name: str, mode: Mode, session: Session) -> Iterator[GpuRow]:
    """Time a workload's steps in one precision, in turns with its peers."""
    gpu, sides, numbers, losses = session.gpu, {}, {}, {}
    nnk.set_precision(mode.precision)
    for way, options in graph_options():
        with session.attempt(f"{way} steps of {workload.name} in {name}"):  # where one fails, the other is measured
            make = functools.partial(Ours, workload, gpu, {**mode.options, **options})
            sides[way], numbers[way], losses[way] = begin(make, gpu)
    ways = list(sides)
    if not ways:
        return
    if find_spec("torch"):
        allow_tf32(mode.tf32)
        for peer, make in opponents(workload, name, session).items():
            try:
                sides[peer], numbers[peer], losses[peer] = begin(make, gpu)
            except Exception as error:  # what a peer cannot do is no failure of ours
                session.leave_out(f"{peer} beside {workload.name} in {name}", f"{type(error).__name__}: {error}")
    want = losses[ways[0]]
    for side, loss in losses.items():
        if not abs(loss / want - 1) < mode.agreement:
            raise RuntimeError(f"{workload.name} in {name}: first losses {want} in nnk, {loss} in {side}")
    steps = steps_of_a_sample(sides[ways[0]], gpu)
    calls = {side: functools.partial(lambda made, _: made.run(steps), made) for side, made in sides.items()}
    timings = {side: each(timing, steps) for side, timing in gpu.interleave(calls, SAMPLES, cold=False).items()}
    peers = {side: timing for side, timing in timings.items() if side not in ways}
    for way in ways:
        kind = gpu_report.SMALL_STEP if workload.network == "resnet20" else gpu_report.STEP
        kind = kind if way == "graph" else gpu_report.STEP_EAGER
        told = {what: {"ours": numbers[way][what], **{p: numbers[p][what] for p in peers}} for what in numbers[way]}
        host, what = sides[way].host(), f"step, {way}"
        yield GpuRow(kind, what, workload.name, name, name, 0, 0, host, timings[way], peers, told)


def steps_of_a_sample(side: Side, gpu: Any) -> int:
    """How many steps in a row take about SAMPLE seconds."""
    gpu.wait()
    start = time.perf_counter()
    side.run(3)
    gpu.wait()
    return int(np.clip(3 * SAMPLE / (time.perf_counter() - start), 3, 50))


def each(timing: Timing, steps: int) -> Timing:
    """The timing of one of so many steps."""
    return Timing(timing.median / steps, timing.p20 / steps, timing.p80 / steps, timing.samples)


def start(device: str) -> GpuRow:
    """From the start of a process to the end of its first step, with all kernels on disk."""

    def program(name: str) -> Callable[[], object]:
        command = [sys.executable, str(HERE / name), device]
        return lambda: subprocess.run(command, stdout=subprocess.DEVNULL, check=True)

    programs = {"ours": program("first_step_nnk.py")}
    if find_spec("torch"):
        programs["torch"] = program("first_step_torch.py")
    timings = interleave(programs, seconds=0, least=2)
    name = "digits_cnn, 32 images, Adam"
    return GpuRow(gpu_report.START, START, name, "float32", "highest", 0, 0, 0.0, timings.pop("ours"), timings)


def main(arguments: Sequence[str] | None = None, **options: Any) -> int:
    """Measure the steps; print every row."""
    labels = [*WORKLOADS, START]
    before = nnk.backend.get_precision()
    with Session("gpu_step", "Time training steps on a GPU.", SECONDS, labels, arguments, **options) as session:
        if not find_spec("torch"):
            session.leave_out("torch", "is not installed")
        if START in session.labels and session.has_time(START, STARTING):
            with session.attempt(START):
                session.add(start(session.gpu.device))
        for name, mode in modes(session).items():
            for workload in (WORKLOADS[label] for label in session.labels if label != START):
                what = f"{workload.name} in {name}"
                if session.has_time(what, MEASURING):
                    with session.attempt(what):
                        for row in measure(workload, name, mode, session):
                            session.add(row)
        nnk.set_precision(before)
    return session.status


if __name__ == "__main__":
    sys.exit(main())
