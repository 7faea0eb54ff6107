"""The same op on the same inputs in both libraries."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from nnk.kernels import cpu
from nnk.kernels.cpu import _layout
from nnk.kernels.ops import Op

Calls = dict[str, Callable[[], Any]]


def load_peers() -> ModuleType | None:
    """The ops in PyTorch, or None where it is not installed."""
    try:
        import peers
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        return None
    return peers


def ours(op: Op, inputs: dict[str, Any]) -> Calls:
    """Our calls of the op's functions, on copies of the inputs in memory like that of our results: aligned."""
    return op.calls(cpu, {name: _pooled(value) for name, value in inputs.items()})


def theirs(op: Op, inputs: dict[str, Any], peers: ModuleType | None) -> dict[str, Calls]:
    """PyTorch's calls by name of the peer: images in both memory formats. Empty where it has no such op."""
    if peers is None or not all(hasattr(peers, function) for function in op.functions):
        return {}
    is_image = any(isinstance(value, np.ndarray) and value.ndim == 4 for value in inputs.values())
    return {
        f"torch {layout}": op.calls(peers, {name: peers.tensors(value, layout) for name, value in inputs.items()})
        for layout in (peers.FORMATS if is_image else ["contiguous"])
    }


def _pooled(value: Any) -> Any:
    if isinstance(value, list):
        return [_pooled(item) for item in value]
    if not isinstance(value, np.ndarray):
        return value
    copy = _layout.empty_like(value)
    copy[...] = value
    return copy
