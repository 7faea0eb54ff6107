"""Convolutions against PyTorch: forward, and the gradients to input and weight.

    python bench/cpu_conv.py [--only TEXT ...] [--threads N ...] [--quick] [--out FILE]

The shapes are those of CIFAR networks with 32 images, and every different layer of ResNet-50, VGG-16 and MobileNet at
224² with a few. 3×3 convolutions are measured in "high" and in "highest" precision. Results must agree with PyTorch's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import contest
import numpy as np
import targets
from harness import Row, interleave
from session import Session

from nnk.kernels.ops import OPS
from nnk.kernels.shapes import conv_output_size

CONV = next(op for op in OPS if op.name == "conv2d")
DIRECTIONS = {"conv2d": "forward", "conv2d_dgrad": "input gradient", "conv2d_wgrad": "weight gradient"}
MINUTES = 8
AGREEMENT = 1e-4  # relative RMS difference from PyTorch's result, whose own error is up to 2e-6


@dataclass(frozen=True)
class Layer:
    """A convolution of n square images, padded so that stride 1 keeps their size."""

    network: str
    n: int
    channels: int
    filters: int
    size: int
    kernel: int = 3
    stride: int = 1
    groups: int = 1

    @property
    def name(self) -> str:
        kind = f"{self.kernel}×{self.kernel}" + (f"/{self.stride}" if self.stride > 1 else "")
        through = f"{self.channels}" if self.groups > 1 else f"{self.channels}→{self.filters}"
        return f"{self.network} {kind} {through} {self.size}²"

    @property
    def group(self) -> str:
        """The class of `targets.py`."""
        if self.groups > 1:
            return targets.CONV_DEPTHWISE
        wide = min(self.channels, self.filters) >= 32 and self.size >= 8
        return targets.CONV_3X3 if (self.kernel, self.stride) == (3, 1) and wide else targets.CONV_OTHER

    def inputs(self) -> dict[str, Any]:
        """Random arrays, images channels-last, and the options of the op."""
        rng = np.random.default_rng(0)
        padding = self.kernel // 2
        size = conv_output_size(self.size, self.kernel, self.stride, padding, 1)

        def images(channels: int, size: int) -> np.ndarray:
            return rng.standard_normal((self.n, size, size, channels), np.float32).transpose(0, 3, 1, 2)

        return {
            "x": images(self.channels, self.size),
            "weight": rng.standard_normal(
                (self.filters, self.channels // self.groups, self.kernel, self.kernel), np.float32
            ),
            "bias": None,
            "dy": images(self.filters, size),
            "stride": (self.stride, self.stride),
            "padding": (padding, padding),
            "dilation": (1, 1),
            "groups": self.groups,
            "precision": "high",
        }


def _cifar() -> Iterator[Layer]:
    for width, size in ((16, 32), (32, 16), (64, 8), (64, 32), (128, 16), (256, 8), (512, 4)):
        yield Layer("cifar", 32, width, width, size)
    yield Layer("cifar", 32, 64, 128, 32, stride=2)
    yield Layer("cifar", 32, 64, 128, 32, kernel=1, stride=2)
    yield Layer("cifar", 32, 64, 256, 16, kernel=1)
    yield Layer("cifar", 32, 64, 64, 16, kernel=5)
    yield Layer("cifar", 32, 3, 64, 32)


def _resnet50(n: int = 4) -> Iterator[Layer]:
    yield Layer("resnet50", n, 3, 64, 224, kernel=7, stride=2)
    before, size = 64, 56
    for width in (64, 128, 256, 512):
        stride = 1 if width == 64 else 2
        yield Layer("resnet50", n, before, width, size, kernel=1)
        yield Layer("resnet50", n, before, 4 * width, size, kernel=1, stride=stride)
        if stride == 2:
            yield Layer("resnet50", n, width, width, size, stride=2)
        size //= stride
        yield Layer("resnet50", n, width, width, size)
        yield Layer("resnet50", n, width, 4 * width, size, kernel=1)
        yield Layer("resnet50", n, 4 * width, width, size, kernel=1)
        before = 4 * width


def _vgg16(n: int = 2) -> Iterator[Layer]:
    before, size = 3, 224
    for width in (64, 128, 256, 512):
        yield Layer("vgg16", n, before, width, size)
        yield Layer("vgg16", n, width, width, size)
        before, size = width, size // 2
    yield Layer("vgg16", n, 512, 512, size)


def _mobilenet(n: int = 4) -> Iterator[Layer]:
    yield Layer("mobilenet", n, 3, 32, 224, stride=2)
    before, size = 32, 112
    for width, stride in ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1), (1024, 2), (1024, 1)):
        yield Layer("mobilenet", n, before, before, size, stride=stride, groups=before)
        size //= stride
        yield Layer("mobilenet", n, before, width, size, kernel=1)
        before = width


# Equal layers of a network count once.
LAYERS = {layer.name: layer for family in (_cifar, _resnet50, _vgg16, _mobilenet) for layer in family()}
QUICK = ("cifar 3×3 64→64 32²", "cifar 1×1 64→256 16²", "cifar 3×3/2 64→128 32²", "mobilenet 3×3 128 56²")


def measure(layer: Layer, session: Session, budget: Any) -> Iterator[Row]:
    """Time one layer in all directions and precisions, in turns with its peers."""
    inputs = layer.inputs()
    costs = CONV.suite.cost(**inputs)
    versions = {"high": layer.group}
    if layer.group == targets.CONV_3X3:
        versions["highest"] = targets.CONV_3X3_HIGHEST
    ours = {version: contest.ours(CONV, {**inputs, "precision": version}) for version in versions}
    peers = contest.theirs(CONV, inputs, session.peers)
    for function in DIRECTIONS:
        for name, calls in peers.items():
            for version in versions:
                _compare(ours[version][function](), calls[function]().numpy(), f"{function} on {layer.name}, {name}")
    for threads in session.threads:
        session.use(threads)
        for function, direction in DIRECTIONS.items():
            contestants = {name: calls[function] for name, calls in (ours | peers).items()}
            timings = interleave(contestants, seconds=budget.share(), least=3)
            peer_timings = {name: timings[name] for name in peers}
            cost = costs[function]
            for version, group in versions.items():
                yield Row(
                    group, direction, layer.name, threads, cost.bytes, cost.flops, timings[version], peer_timings
                )


def _compare(got: np.ndarray, want: np.ndarray, what: str) -> None:
    difference = np.linalg.norm(got - want) / np.linalg.norm(want)
    if not difference < AGREEMENT:
        raise RuntimeError(f"{what}: the results differ by {difference:.1e} of their RMS")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the layers; print every ratio, then each class beside its target."""
    with Session("cpu_conv", "Time convolutions against PyTorch.", MINUTES, LAYERS, QUICK, arguments) as session:
        budget = session.budget(len(session.labels) * len(session.threads) * len(DIRECTIONS))
        for label in session.labels:
            for row in measure(LAYERS[label], session, budget):
                session.add(row)


if __name__ == "__main__":
    main()
