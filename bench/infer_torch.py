"""The forward pass of a network in PyTorch: in either memory format, batch norms folded or not."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
from peers import FORMATS
from step_torch import twin

from nnk import nn


def folded(model: torch.nn.Module) -> torch.nn.Module:
    """A copy whose batch norms are part of the convolutions before them."""
    model = copy.deepcopy(model)
    for row in model.modules():
        if isinstance(row, torch.nn.Sequential):
            for i in range(len(row) - 1):
                if isinstance(row[i], torch.nn.Conv2d) and isinstance(row[i + 1], torch.nn.BatchNorm2d):
                    row[i], row[i + 1] = torch.nn.utils.fuse_conv_bn_eval(row[i], row[i + 1]), torch.nn.Identity()
    return model


def forwards(source: nn.Module, images: np.ndarray) -> dict[str, Callable[[], torch.Tensor]]:
    """Every way to run the network `source` on the images, by name."""
    model = twin(source).eval()
    model.load_state_dict({key: torch.from_numpy(value) for key, value in source.state_dict().items()})
    ways = {}
    for layout, memory_format in FORMATS.items():
        x = torch.from_numpy(images).contiguous(memory_format=memory_format)
        for name, version in (("", model), (" folded", folded(model))):
            way = copy.deepcopy(version).to(memory_format=memory_format)
            ways[f"torch {layout}{name}"] = _forward(way, x)
    return ways


def _forward(model: torch.nn.Module, x: torch.Tensor) -> Callable[[], torch.Tensor]:
    def forward() -> torch.Tensor:
        with torch.inference_mode():
            return model(x)

    return forward
