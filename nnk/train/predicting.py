"""What a trained model says about many inputs: its outputs, and a classifier's probabilities."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

import nnk
from nnk import backend, nn
from nnk.data import ArrayDataset, DataLoader
from nnk.nn.arguments import integer

from .batches import brought, device_of


@contextlib.contextmanager
def inference(*modules: nn.Module) -> Iterator[None]:
    """Put modules into eval mode and save nothing for a backward; each part is in its own mode again afterwards."""
    before = [(part, part.training) for module in modules for part in module.modules()]
    for module in modules:
        module.eval()
    try:
        with nnk.no_grad():
            yield
    finally:
        for part, training in before:
            part.training = training


def outputs(model: nn.Module, inputs: Any, batch_size: int, view: Callable[[Any], Any] | None = None) -> Any:
    """Return the model's outputs for all inputs, an array (N, …) or an `ArrayDataset`, batch by batch in eval mode.

    They are where the inputs are, whatever device the model is on.
    ``view`` changes each batch first. Raises ValueError without inputs.
    """
    integer(batch_size, "batch_size", least=1)
    with inference(model), contextlib.closing(_batches(inputs, batch_size)) as batches:
        device, made = device_of(model), []
        for x in batches:
            y = model(brought(x if view is None else view(x), device))
            made.append(backend.asarray_on(y, backend.device_of(x)))
        return np.concatenate(made)


def _batches(inputs: Any, batch_size: int) -> Iterator[Any]:
    if not isinstance(inputs, ArrayDataset):
        inputs = backend.as_array(inputs)
        if not inputs.ndim:
            raise ValueError("inputs is a number, expected an array (N, …)")
    if not len(inputs):
        raise ValueError("inputs is empty, expected at least one")
    if isinstance(inputs, ArrayDataset):
        with contextlib.closing(DataLoader(inputs, batch_size).batches(0)) as batches:
            yield from (batch[0] for batch in batches)
    else:
        yield from (inputs[start : start + batch_size] for start in range(0, len(inputs), batch_size))


def probabilities(model: nn.Module, inputs: Any, batch_size: int = 256) -> Any:
    """Return softmax(model(x)), (N, C), for all inputs, batch by batch in eval mode.

    Args:
        model: a classifier that returns logits (N, C), C >= 2.
        inputs: an array (N, …), or an `ArrayDataset`, whose transform is applied.
        batch_size: of the model's calls.

    Raises ValueError without inputs, for a ``batch_size`` below 1 and for a model with another output.
    """
    return _softmax(outputs(model, inputs, batch_size))


def augmented_probabilities(
    model: nn.Module, inputs: Any, views: Sequence[Callable[[Any], Any]], batch_size: int = 256
) -> Any:
    """Test-time augmentation: return the mean of the probabilities for several views of each image, (N, C).

    Args:
        model: as for `probabilities`.
        inputs: images (N, C, H, W), or an `ArrayDataset` of them.
        views: functions from a batch of images to images, such as ``lambda x: x`` and ``lambda x: x[..., ::-1]``
            (mirrored).
        batch_size: of the model's calls.

    Raises ValueError without views, and as `probabilities` does.
    Source: Krizhevsky et al. (2012), section 4.1, which averages over ten crops.
    """
    views = list(views)
    if not views:
        raise ValueError("views is empty, expected at least one function")
    return sum(_softmax(outputs(model, inputs, batch_size, view)) for view in views) / len(views)


def _softmax(logits: Any) -> Any:
    if logits.ndim != 2 or logits.shape[1] < 2:  # of a single logit, softmax is always 1
        raise ValueError(f"the model's output has shape {logits.shape}, expected (N, C) with C >= 2")
    return backend.of(logits).softmax(logits, dim=1)
