"""``nnk activations``: what small, large, Xavier and Kaiming weights do to a deep network, in numbers and a picture."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import nnk
from nnk import nn
from nnk.nn import init
from nnk.serialization import replacing
from nnk.train import ActivationStats, activation_stats
from nnk.train.activations import draw

from .errors import CommandError

LAYERS = 6
WIDTH = 500
SAMPLES = 1000
WEIGHTS: dict[str, Callable[[Any], Any]] = {
    "small: std 0.01": lambda weight: init.normal_(weight, std=0.01),
    "large: std 0.2": lambda weight: init.normal_(weight, std=0.2),
    "Xavier": init.xavier_normal_,
    "Kaiming": lambda weight: init.kaiming_normal_(weight, nonlinearity="relu"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--out", type=Path, metavar="FILE", default=Path("activations.png"), help="the picture (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Send normal noise through six layers of tanh and of ReLU, print each network's table, draw all histograms."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise CommandError("the picture needs matplotlib: python -m pip install matplotlib") from error
    networks = [(kind, name) for kind in (nn.Tanh, nn.ReLU) for name in WEIGHTS]
    figure = Figure(figsize=(2 * LAYERS, 1.35 * len(networks)), layout="constrained")
    for row, (kind, name) in zip(figure.subplots(len(networks), LAYERS), networks):
        stats = network_stats(kind, WEIGHTS[name])
        print(f"{kind.__name__}, {name}\n{stats}\n", flush=True)
        widest = max(layer.mean + 4 * layer.std for layer in stats)
        limits = (-1.05, 1.05) if kind is nn.Tanh else (-0.03 * widest, widest)  # one scale for all layers
        row[0].set_ylabel(f"{kind.__name__}\n{name}", fontsize=8)
        for number, (axes, layer) in enumerate(zip(row, stats), 1):
            draw(axes, layer, f"layer {number}", limits)
    try:
        with replacing(args.out) as temporary:
            figure.savefig(temporary, format="png", dpi=120)
    except OSError as error:
        raise CommandError(f"{args.out} cannot be written: {error}") from error
    print(f"histograms of all outputs: {args.out}")
    return 0


def network_stats(kind: type[nn.Module], fill: Callable[[Any], Any]) -> ActivationStats:
    """Return the statistics of `LAYERS` layers of this activation, with weights from `fill`, on normal noise."""
    nnk.manual_seed(0)
    layers: list[nn.Module] = []
    for _ in range(LAYERS):
        layers += [nn.Linear(WIDTH, WIDTH, bias=False), kind()]
        fill(layers[-2].weight)
    noise = np.random.default_rng(0).standard_normal((SAMPLES, WIDTH), np.float32)
    return activation_stats(nn.Sequential(*layers), noise, kind)
