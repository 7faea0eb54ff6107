"""Convolutions on a GPU against cuDNN, through PyTorch in channels_last with its benchmark on.

    python bench/gpu_conv.py [--only TEXT ...] [--seconds N] [--out FILE]

The layers are those of `cpu_conv.py`, with larger batches: CIFAR networks', ResNet-50's and VGG-16's, forward and both
gradients. Precisions are strict float32 (TF32 off on both sides), TF32, float16 and bfloat16, as far as the backend has
them. Depthwise layers, of MobileNet to its third version and of ConvNeXt, whose kernels know no TF32, are memory bound
up to 5 × 5: GB/s and the share of what a copy reaches count, and the peer is PyTorch in both memory formats. Results
must agree with those in float64; both libraries' errors are kept. On tensor cores each kernel of the ladder is
measured, chosen or not. Layers of all networks take turns, so that a run out of time has some of each.

Layers of networks with batch norm are also measured with it and a ReLU behind them, as in training's forward: the
convolution hands batch norm the statistics of its output.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import contest
import gpu_report
import numpy as np
from cpu_conv import CONV, LAYERS, Layer
from gpu import in_turns
from gpu_report import GpuRow
from gpu_session import Session

from nnk.kernels.cases._suite import Cost
from nnk.kernels.shapes import conv_output_size

SECONDS = 110
SAMPLES = 10
SETS = 2  # of inputs, that take turns
BATCHES = {"resnet50": 64, "vgg16": 32, "cifar": 512, "mobilenet": 64, "mobilenetv2": 64, "mobilenetv3": 64,
           "convnext": 64}  # fmt: skip
DEPTHWISE = {  # channels, size of the image, window, stride
    "mobilenetv2": ((96, 112, 3, 2), (144, 56, 3, 1), (144, 56, 3, 2), (192, 28, 3, 2), (576, 14, 3, 1),
                    (960, 7, 3, 1)),
    "mobilenetv3": ((72, 56, 5, 2), (120, 28, 5, 1), (672, 14, 5, 2), (960, 7, 5, 1)),
    "convnext": ((96, 56, 7, 1), (384, 14, 7, 1)),
}  # fmt: skip
FUNCTIONS = dict(zip(("conv2d", "conv2d_dgrad", "conv2d_wgrad"), gpu_report.DIRECTIONS))
NORMALISED = ("resnet50", "cifar", "mobilenet")  # networks
BLOCK = "conv2d, batch norm, ReLU"


@dataclass(frozen=True)
class Mode:
    """A dtype in memory, the precision that nnk is asked for, and how far results may be from float64's (RMS)."""

    dtype: str
    precision: str
    agreement: float


MODES = {
    "highest": Mode("float32", "highest", 1e-4),
    "tf32": Mode("float32", "high", 5e-3),
    "float16": Mode("float16", "high", 5e-3),
    "bfloat16": Mode("bfloat16", "high", 3e-2),
}


def layers() -> dict[str, Layer]:
    """The layers by name, networks in turns."""
    known = [layer for layer in LAYERS.values() if layer.groups > 1 or layer.network != "mobilenet"]
    for network, sizes in DEPTHWISE.items():
        known += [Layer(network, 1, c, c, size, kernel, stride, groups=c) for c, size, kernel, stride in sizes]
    families = [[replace(layer, n=n) for layer in known if layer.network == network] for network, n in BATCHES.items()]
    mixed = itertools.chain.from_iterable(itertools.zip_longest(*families))
    return {layer.name: layer for layer in mixed if layer is not None}


def modes(session: Session) -> dict[str, Mode]:
    """What backend and device offer."""
    gpu, found = session.gpu, {}
    for name, mode in MODES.items():
        if mode.dtype not in gpu.dtypes():
            session.leave_out(f"convolutions in {name}", f"no arrays of {mode.dtype} can be made here")
        elif name != "highest" and not gpu.tensor_cores(mode.dtype, mode.precision):
            session.leave_out(f"convolutions in {name}", "the backend has strict float32 alone for it")
        else:
            found[name] = mode
    return found


def inputs(layer: Layer, mode: Mode, gpu: Any) -> dict[str, Any]:
    """Random arrays on the device, images channels-last, and the options of the op."""
    padding = layer.kernel // 2
    size = conv_output_size(layer.size, layer.kernel, layer.stride, padding, 1)

    def images(channels: int, size: int) -> Any:
        return gpu.normal((layer.n, size, size, channels), mode.dtype).transpose(0, 3, 1, 2)

    return {
        "x": images(layer.channels, layer.size),
        "weight": gpu.normal(
            (layer.filters, layer.channels // layer.groups, layer.kernel, layer.kernel), mode.dtype
        ),
        "bias": None,
        "dy": images(layer.filters, size),
        "stride": (layer.stride, layer.stride),
        "padding": (padding, padding),
        "dilation": (1, 1),
        "groups": layer.groups,
        "precision": mode.precision,
    }


def block_of_ours(kernels: Any, x: Any, weight: Any, vectors: Sequence[Any], **window: Any) -> Any:
    """Training's forward of a convolution, batch norm and ReLU."""
    y, statistics = kernels.conv2d(x, weight, statistics=True, **window)
    return kernels.batch_norm_relu_train(y, *vectors, momentum=0.1, eps=1e-5, statistics=statistics)[0]


def block_of_torch(peers: ModuleType, x: Any, weight: Any, vectors: Sequence[Any], **window: Any) -> Any:
    """The same in PyTorch."""
    return peers.batch_norm_relu_train(peers.conv2d(x, weight, **window), *vectors, momentum=0.1, eps=1e-5)[0]


def block(function: Callable, kernels: Any, inputs: Mapping[str, Any], vectors: Sequence[Any]) -> Callable[[], Any]:
    """A block as a call without arguments."""
    others = {key: value for key, value in inputs.items() if key not in ("bias", "dy")}
    return lambda: function(kernels, vectors=vectors, **others)


def vectors(layer: Layer, gpu: Any) -> list[Any]:
    """Weight, bias and running statistics of a batch norm behind the layer, float32."""
    return [gpu.normal((layer.filters,), "float32") for _ in range(3)] + [gpu.array(np.ones(layer.filters, np.float32))]


def measure(layer: Layer, name: str, mode: Mode, session: Session, peers: ModuleType | None) -> Iterator[GpuRow]:
    """Time one layer in all directions in one precision, in turns with cuDNN."""
    gpu, functions = session.gpu, dict(FUNCTIONS)
    sets = [inputs(layer, mode, gpu) for _ in range(SETS)]
    sides = {"ours": [CONV.calls(gpu.kernels, each) for each in sets]}
    costs = dict(CONV.suite.cost(**sets[0]))
    if layer.network in NORMALISED:
        functions[BLOCK], norm = gpu_report.BLOCK, vectors(layer, gpu)
        for calls, each in zip(sides["ours"], sets):
            calls[BLOCK] = block(block_of_ours, gpu.kernels, each, norm)
        size = sets[0]["dy"].nbytes  # written by both, and read once between them
        costs[BLOCK] = Cost(costs["conv2d"].bytes + 2 * size, costs["conv2d"].flops + 6 * sets[0]["dy"].size)
    more: dict[str, Any] = {function: {} for function in functions}
    if peers is not None:
        use_tf32(name == "tf32")
        for layout in ("channels_last", "contiguous") if layer.groups > 1 else ("channels_last",):
            theirs = [{key: peers.shared(value, layout) for key, value in each.items()} for each in sets]
            sides[f"torch {layout}"] = [CONV.calls(peers, each) for each in theirs]
            if BLOCK in functions:
                shared = [peers.shared(value, layout) for value in norm]
                for calls, each in zip(sides[f"torch {layout}"], theirs):
                    calls[BLOCK] = block(block_of_torch, peers, each, shared)
        exact = in_float64(theirs[0], peers)
        if BLOCK in functions:
            wide = [value.double() for value in shared]
            exact["block"], *_ = peers.batch_norm_relu_train(exact["y"], *wide, momentum=0.1, eps=1e-5)
        for function, result in zip(functions, ("y", "dx", "dweight", "block")):
            found = {side: calls[0][function]() for side, calls in sides.items()}
            found["ours"] = peers.shared(found["ours"], "channels_last")
            errors = {side: error(got, exact[result]) for side, got in found.items()}
            if not errors["ours"] < mode.agreement:
                most = f"{mode.agreement:.0e} of their RMS"
                raise RuntimeError(f"{function} on {layer.name}: the results are {errors['ours']:.1e} off, not {most}")
            more[function] = {"error": errors}
        del exact, found
    ours = sides.pop("ours")
    numbered = {function: in_turns([each[function] for each in ours]) for function in functions}
    tensor_cores = layer.groups == 1 and name != "highest"
    rungs = gpu.rungs({function: numbered[function] for function in FUNCTIONS}) if tensor_cores else {}
    for function, what in functions.items():
        chosen = what
        if function in FUNCTIONS:
            depthwise = gpu_report.depthwise(layer.kernel, what)
            chosen = depthwise if layer.groups > 1 else gpu_report.conv(name, what)
        theirs = {side: in_turns([each[function] for each in calls]) for side, calls in sides.items()}
        classes = {chosen: numbered[function]}
        classes |= {gpu_report.rung(rung): calls[function] for rung, calls in rungs.items() if function in calls}
        timings, cost = gpu.interleave(classes | theirs, SAMPLES), costs[function]
        queue = gpu.queue(numbered[function])
        for group in classes:
            yield GpuRow(
                group, function, f"{layer.name}, {layer.n} images", mode.dtype, name, cost.bytes, cost.flops, queue,
                timings[group], {side: timings[side] for side in theirs}, more[function] if group == chosen else {},
            )


def use_tf32(allowed: bool) -> None:
    """Let cuDNN round float32 to TF32, or forbid it; and let it try all its algorithms."""
    cudnn = import_module("torch").backends.cudnn
    cudnn.allow_tf32, cudnn.benchmark = allowed, True


def in_float64(inputs: Mapping[str, Any], peers: ModuleType) -> dict[str, Any]:
    """PyTorch's results on tensors made float64, by the first algorithm that serves."""
    wide = {key: value.double() if hasattr(value, "double") else value for key, value in inputs.items()}
    with import_module("torch").backends.cudnn.flags(enabled=True, benchmark=False):
        return CONV.suite.run(peers, **wide)


def error(got: Any, want: Any) -> float:
    """The RMS of a tensor's error over that of what it should be."""
    return float((got.double() - want).norm() / want.norm())


def main(arguments: Sequence[str] | None = None, **options: Any) -> int:
    """Measure the layers; print every row."""
    chosen: Mapping[str, Layer] = layers()
    with Session("gpu_conv", "Time convolutions on a GPU.", SECONDS, chosen, arguments, **options) as session:
        peers = contest.load_peers() if find_spec("torch") else None
        if peers is None:
            session.leave_out("torch", "is not installed")
        for label in session.labels:
            for name, mode in modes(session).items():
                if chosen[label].groups > 1 and name == "tf32":
                    continue
                what = f"{label} in {name}"
                if session.has_time(what, 3.0):
                    with session.attempt(what):
                        for row in measure(chosen[label], name, mode, session, peers):
                            session.add(row)
    return session.status


if __name__ == "__main__":
    sys.exit(main())
