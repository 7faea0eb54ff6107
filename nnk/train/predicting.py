"""Probabilities of a classifier, also averaged over views of the same images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import nnk
from nnk import backend, nn


def probabilities(model: nn.Module, inputs: Any, batch_size: int = 256) -> np.ndarray:
    """Return softmax(model(x)), (N, C), for all ``inputs`` (N, ...), batch by batch in eval mode.

    Raises ValueError without inputs, and for a model whose output is not (N, C).
    """
    inputs = backend.as_array(inputs)
    if not len(inputs):
        raise ValueError("inputs is empty, expected at least one")
    training, results = model.training, []
    model.eval()
    try:
        with nnk.no_grad():
            for start in range(0, len(inputs), batch_size):
                logits = model(inputs[start : start + batch_size])
                if logits.ndim != 2:
                    raise ValueError(f"the model's output has shape {logits.shape}, expected (N, C)")
                results.append(backend.of(logits).softmax(logits, dim=1))
    finally:
        model.train(training)
    return np.concatenate(results)


def augmented_probabilities(
    model: nn.Module, inputs: Any, views: Sequence[Callable[[Any], Any]], batch_size: int = 256
) -> np.ndarray:
    """Test-time augmentation: return the mean of the probabilities for several views of each image, (N, C).

    Args:
        model: a classifier that returns logits (N, C).
        inputs: images (N, C, H, W).
        views: functions from images to images, such as ``lambda x: x`` and ``lambda x: x[..., ::-1]`` (mirrored).
        batch_size: of the model's calls.

    Raises ValueError without views.
    Source: Krizhevsky et al. (2012), section 4.1, which averages over ten crops.
    """
    if not views:
        raise ValueError("views is empty, expected at least one function")
    return sum(probabilities(model, view(inputs), batch_size) for view in views) / len(views)
