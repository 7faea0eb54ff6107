"""Inference against PyTorch: the forward pass of whole networks in eval mode, without gradients.

    python bench/cpu_infer.py [--only TEXT ...] [--threads N ...] [--quick] [--out FILE]

nnk runs the network as it is: under `no_grad` its containers have convolutions do the batch norm and the ReLU behind
them. PyTorch runs in `inference_mode`, in both memory formats, as it is and with batch norms folded into convolutions
by its `fuse_conv_bn_eval` ("folded"). Its best time counts. Everyone has the same weights, and outputs must agree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import targets
from harness import Budget, Row, interleave
from session import Session

import nnk
from nnk import models, nn

MINUTES = 1.5
BATCHES = {"resnet18": (1, 32), "resnet20": (1, 128), "vgg8": (1, 64), "mobilenet": (1, 64)}
QUICK = ("resnet20, 1 image", "resnet20, 128 images")
SHAPE, CLASSES = (3, 32, 32), 10
AGREEMENT = 1e-3  # of the largest output


@dataclass(frozen=True)
class Network:
    """A network and the images that it sees at once."""

    network: str
    batch: int

    @property
    def name(self) -> str:
        return f"{self.network}, {self.batch} image{'s' * (self.batch > 1)}"

    def images(self) -> np.ndarray:
        """The batch (N, C, H, W)."""
        return np.random.default_rng(0).standard_normal((self.batch, *SHAPE), np.float32)

    def model(self) -> nn.Module:
        """The network in eval mode; its batch norms have seen some images."""
        nnk.manual_seed(0)
        model = models.create(self.network, SHAPE, CLASSES)
        with nnk.no_grad():
            model(np.random.default_rng(1).standard_normal((64, *SHAPE), np.float32))
        return model.eval()


NETWORKS = {
    network.name: network for name, batches in BATCHES.items() for network in (Network(name, n) for n in batches)
}


def ours(network: Network) -> Callable[[], np.ndarray]:
    """The forward pass in nnk."""
    model, x = network.model(), network.images()

    def forward() -> np.ndarray:
        with nnk.no_grad():
            return model(x)

    return forward


def measure(network: Network, session: Session, budget: Budget) -> Iterator[Row]:
    """Time a network's forward pass with every number of threads, in turns with its peers."""
    session.use(max(session.threads))
    forwards = {"nnk": ours(network)}
    if session.peers is not None:
        from infer_torch import forwards as in_torch

        forwards |= in_torch(network.model(), network.images())
    outputs = {name: np.asarray(forward()) for name, forward in forwards.items()}
    for name, output in outputs.items():
        error = np.abs(output - outputs["nnk"]).max() / np.abs(output).max()
        if not error < AGREEMENT:
            raise RuntimeError(f"{network.name}: the outputs of {name} differ by {error:.1e} of the largest")
    for threads in session.threads:
        session.use(threads)
        timings = interleave(forwards, seconds=budget.share(), least=5)
        yield Row(targets.INFERENCE, network.network, network.name, threads, 0, 0, timings.pop("nnk"), timings)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the networks; print every ratio, then the mean of each."""
    with Session("cpu_infer", "Time inference against PyTorch.", MINUTES, NETWORKS, QUICK, arguments) as session:
        budget = session.budget(len(session.labels) * len(session.threads), 0.9)
        for network in map(NETWORKS.get, session.labels):
            for row in measure(network, session, budget):
                session.add(row)


if __name__ == "__main__":
    main()
