"""All operations but convolutions on a GPU, against PyTorch, CuPy and this device's copy bandwidth.

    python bench/gpu_ops.py [--only TEXT ...] [--seconds N] [--out FILE]

Walks the registry, on the largest of each op's bench shapes in `kernels/cases/` with a batch that makes its largest
array 64 MB; optimisers and clipping get the parameters of ResNet-50. Those with a target come first, in float32,
float16 and bfloat16; then all others in float32, then in the 16-bit dtypes, as far as the time goes.
"""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import contest
import gpu_report
import numpy as np
from cpu_ops import ACTIVATIONS, PAIRS, in_a_row
from gpu import Numbered, in_turns, numpy_dtype, precision_of
from gpu_report import GpuRow
from gpu_session import Session
from peers_cupy import CupyPeers

from nnk.kernels import parity
from nnk.kernels.cases._suite import Case, Cost
from nnk.kernels.ops import OPS, Op

SECONDS = 110
SAMPLES = 20
SETS = 2  # of inputs, that take turns
LEAST = 64_000_000  # bytes of the largest array
MEASURED = {op.name: op for op in OPS if op.name != "conv2d"}  # which has a bench of its own
TARGETED = (
    "relu", "sigmoid", "gelu", "batch_norm_relu", "batch_norm_train", "max_pool2d", "avg_pool2d", "cross_entropy",
    "dropout", "softmax", "sgd", "adam", "add", "linear",
)  # fmt: skip
COMPILED = ("gelu", "batch_norm_relu", "cross_entropy")  # by torch.compile, which takes seconds for each
COMPILING = 20.0  # seconds that must be left for it
VECTORS = ("weight", "bias", "running_mean", "running_var")  # of norms: float32 beside images of 16 bits
NORMS = ("batchnorm", "batchnorm_relu", "groupnorm", "layernorm")  # files

GROUPS = {
    "batch_norm_train": gpu_report.BATCH_NORM,
    "batch_norm_relu": gpu_report.BATCH_NORM_RELU,
    "cross_entropy": gpu_report.CROSS_ENTROPY,
    "dropout": gpu_report.DROPOUT,
    "softmax": gpu_report.SOFTMAX,
    "log_softmax": gpu_report.SOFTMAX,
    "linear": gpu_report.LINEAR,
    "sgd": gpu_report.OPTIMISER,
    "adam": gpu_report.OPTIMISER,
    "adamw": gpu_report.OPTIMISER,
}


def group(op: Op, function: str) -> str:
    """The class of `gpu_report.TARGETS` that a row of this op belongs to."""
    if function == "batch_norm_relu, both ways":
        return gpu_report.BATCH_NORM_RELU_PAIR
    if op.name in GROUPS:
        return GROUPS[op.name]
    if op.file in ACTIVATIONS:
        return gpu_report.ACTIVATION
    return gpu_report.POOL if op.file == "pool2d" else gpu_report.OTHER


# ---------------------------------------------------------------- inputs
def resnet50_shapes() -> list[tuple[int, ...]]:
    """The parameters of ResNet-50: 25.6 million floats in 161 arrays."""
    shapes = [(64, 3, 7, 7), (64,), (64,)]
    before = 64
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(blocks):
            for shape in ((width, before, 1, 1), (width, width, 3, 3), (4 * width, width, 1, 1)):
                shapes += [shape, (shape[0],), (shape[0],)]
            if block == 0:
                shapes += [(4 * width, before, 1, 1), (4 * width,), (4 * width,)]
            before = 4 * width
    return [*shapes, (1000, 2048), (1000,)]


@functools.cache
def largest(op: Op) -> list[Case]:
    """The op's largest bench shape; batch norm with ReLU is measured with and without a sum."""
    if op.name == "batch_norm_relu":
        return [case for case in op.suite.bench if "56²" in case.name]
    sizes = [max(map(_size, parity.make_inputs(case, np.float32).values())) for case in op.suite.bench]
    return [op.suite.bench[int(np.argmax(sizes))]]


def _size(value: Any) -> int:
    if isinstance(value, list):
        return sum(map(_size, value))
    return value.size if isinstance(value, np.ndarray) else 0


def host_inputs(op: Op, case: Case, dtype: str) -> tuple[dict[str, Any], str]:
    """The inputs of a case in this dtype, so large as they are measured, and what to call their shape."""
    inputs = parity.make_inputs(case, np.float32)
    if any(isinstance(value, list) for value in inputs.values()):
        shapes = resnet50_shapes()
        if op.name == "max_norm":  # of rows
            shapes = [shape for shape in shapes if len(shape) > 1]
        name = f"{sum(map(math.prod, shapes)) / 1e6:.1f} M in {len(shapes)} arrays"
        return {key: _cast(_like(value, shapes), dtype) for key, value in inputs.items()}, name
    arrays = {key: x for key, x in inputs.items() if isinstance(x, np.ndarray) and x.ndim and key not in VECTORS}
    most = max(arrays.values(), key=lambda x: x.size)
    repeat = math.ceil(LEAST / (most.size * np.dtype(np.float32 if dtype == "float32" else np.float16).itemsize))

    def grown(key: str, value: Any) -> Any:
        if not isinstance(value, np.ndarray):
            return value
        if value.shape == most.shape or (key in arrays and value.shape[0] == most.shape[0]):
            value = _repeated(value, repeat)
        return value if op.file in NORMS and key in VECTORS else _cast(value, dtype)

    return {key: grown(key, value) for key, value in inputs.items()}, f"{case.name}, batch × {repeat}"


def _like(value: Any, shapes: Sequence[tuple[int, ...]]) -> Any:
    """A list of arrays of these shapes for a list of arrays, also in a list of steps; positive where it was."""
    if not isinstance(value, list):
        return value
    if isinstance(value[0], list):
        return [_like(value[0], shapes)]
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape, np.float32) for shape in shapes]
    return [np.abs(x) for x in arrays] if all((x >= 0).all() for x in value) else arrays


def _repeated(x: np.ndarray, repeat: int) -> np.ndarray:
    """x so many times along its first axis, images channels-last."""
    if x.ndim != 4:
        return np.concatenate([x] * repeat)
    return np.concatenate([x.transpose(0, 2, 3, 1)] * repeat).transpose(0, 3, 1, 2)


def _cast(value: Any, dtype: str) -> Any:
    if isinstance(value, list):
        return [_cast(item, dtype) for item in value]
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
        return value
    return value.astype(numpy_dtype(dtype), copy=False)


def uploaded(session: Session, value: Any) -> Any:
    """Arrays, also in lists, on the device."""
    if isinstance(value, list):
        return [uploaded(session, item) for item in value]
    return session.gpu.array(value) if isinstance(value, np.ndarray) else value


# ---------------------------------------------------------------- calls
class Compiled:
    """PyTorch's ops, each through torch.compile."""

    def __init__(self, peers: ModuleType):
        self.peers = peers

    def __getattr__(self, name: str) -> Callable:
        import torch

        function = torch.compile(getattr(self.peers, name), dynamic=False)
        setattr(self, name, function)
        return function


@functools.cache
def compiled(peers: ModuleType) -> Compiled:
    """One for all, so that nothing is compiled twice."""
    return Compiled(peers)


def rotating(op: Op, backend: Any, sets: Sequence[dict[str, Any]]) -> dict[str, Numbered]:
    """Each function of the op as a call with a number, which says the set of inputs."""
    calls = [op.calls(backend, inputs) for inputs in sets]
    if op.name in PAIRS:
        for each in calls:
            each[f"{op.name}, both ways"] = in_a_row([each[function] for function in PAIRS[op.name]])
    return {name: in_turns([each[name] for each in calls]) for name in calls[0]}


def opponents(
    op: Op, session: Session, sets: Sequence[dict[str, Any]], peers: ModuleType | None, dtype: str
) -> dict[str, dict[str, Numbered]]:
    """The calls of every peer that has all of the op's functions for this dtype."""
    xp = CupyPeers(session.gpu.xp)
    found = {"cupy": (xp, lambda value: value)} if all(hasattr(xp, function) for function in op.functions) else {}
    if peers is not None:
        is_image = any(getattr(value, "ndim", 0) == 4 for value in sets[0].values())
        for layout in peers.FORMATS if is_image else ["contiguous"]:
            found[f"torch {layout}"] = peers, functools.partial(peers.shared, layout=layout)
        if op.name in COMPILED and dtype == "float32" and session.has_time(f"torch.compile of {op.name}", COMPILING):
            best = "channels_last" if is_image else "contiguous"
            found["torch.compile"] = compiled(peers), functools.partial(peers.shared, layout=best)
    calls = {}
    for name, (backend, share) in found.items():
        try:
            theirs = [{key: share(value) for key, value in inputs.items()} for inputs in sets]
            calls[name] = rotating(op, backend, theirs)
        except Exception as error:  # what a peer cannot do is no failure of ours
            session.leave_out(f"{name} beside {op.name} in {dtype}", f"{type(error).__name__}: {error}")
    return calls


def measure(op: Op, case: Case, dtype: str, session: Session, peers: ModuleType | None) -> Iterator[GpuRow]:
    """Time every function of an op on one shape, in turns with its peers."""
    host, shape = host_inputs(op, case, dtype)
    costs = dict(op.suite.cost(**host))
    if op.name in PAIRS:
        pair = [costs[function] for function in PAIRS[op.name]]
        costs[f"{op.name}, both ways"] = Cost(sum(cost.bytes for cost in pair), sum(cost.flops for cost in pair))
    sets = [{key: uploaded(session, value) for key, value in host.items()} for _ in range(SETS)]
    ours = rotating(op, session.gpu.kernels, sets)
    theirs = opponents(op, session, sets, peers, dtype)
    for function, cost in costs.items():
        calls = {"ours": ours[function], **{name: peer[function] for name, peer in theirs.items()}}
        timings = session.gpu.interleave(calls, SAMPLES)
        queue = session.gpu.queue(calls["ours"])
        yield GpuRow(
            group(op, function), function, shape, dtype, precision_of(dtype), cost.bytes, cost.flops, queue,
            timings.pop("ours"), timings,
        )


# ---------------------------------------------------------------- the order
def plan(labels: Sequence[str], dtypes: Sequence[str]) -> list[tuple[Op, str]]:
    """What is measured, the important first."""
    first = [(MEASURED[name], dtype) for name in TARGETED if name in labels for dtype in dtypes]
    rest = [MEASURED[name] for name in labels if name not in TARGETED]
    return first + [(op, dtype) for dtype in dtypes for op in rest]


def offered(op: Op, session: Session) -> bool:
    """Whether the backend has this op; else that is noted."""
    try:
        for function in op.functions:
            getattr(session.gpu.kernels, function)
    except ModuleNotFoundError as error:
        if error.name != f"{session.gpu.kernels.__name__}.{op.file}":
            raise
        session.leave_out(op.name, "no CUDA kernels yet")
        return False
    return True


def launch(session: Session) -> GpuRow:
    """The host's time for a launch of a kernel that does nothing."""
    call = session.gpu.nothing()
    timing = session.gpu.interleave({"ours": call}, SAMPLES)["ours"]
    queue = session.gpu.queue(call)
    return GpuRow(gpu_report.LAUNCH, "nothing", "1 block", "float32", "highest", 0, 0, queue, timing)


def main(arguments: Sequence[str] | None = None, **options: Any) -> int:
    """Measure the ops; print every row."""
    with Session("gpu_ops", "Time operations on a GPU.", SECONDS, MEASURED, arguments, **options) as session:
        peers = contest.load_peers() if find_spec("torch") else None
        if peers is None:
            session.leave_out("torch", "is not installed")
        dtypes = session.gpu.dtypes()
        if "bfloat16" not in dtypes:
            session.leave_out("bfloat16", "needs CuPy 14 and ml_dtypes")
        with session.attempt("launch"):
            session.add(launch(session))
        for op, dtype in plan(session.labels, dtypes):
            what = f"{op.name} in {dtype}"
            if not session.has_time(what, 2.0):
                continue
            with session.attempt(what):
                for case in largest(op) if offered(op, session) else []:
                    for row in measure(op, case, dtype, session, peers):
                        session.add(row)
    return session.status


if __name__ == "__main__":
    sys.exit(main())
