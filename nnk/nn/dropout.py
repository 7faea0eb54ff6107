"""Dropout."""

from __future__ import annotations

from typing import Any

from nnk import backend, random
from nnk.nn.module import Module

__all__ = ["Dropout"]


class Dropout(Module):
    """In training, each element is 0 with probability p, else x / (1 - p); in eval mode y = x. Any shape.

    Which elements are dropped depends on `nnk.manual_seed` and on how many random calls came before, not on the
    backend, the memory order or the number of threads. `inplace` is accepted and changes nothing.

    Raises ValueError unless 0 <= p <= 1.
    Source: Srivastava et al. (2014), "Dropout: a simple way to prevent neural networks from overfitting".
    """

    def __init__(self, p: float = 0.5, inplace: bool = False):
        if not 0 <= p <= 1:
            raise ValueError(f"p is {p}, expected 0 <= p <= 1")
        self.p = p
        self.inplace = inplace

    def forward(self, x: Any) -> Any:
        """Return `x` with some elements dropped."""
        x = backend.as_array(x)
        kernels = backend.of(x)
        if not self.training or self.p == 0:
            self.save(None)
            return x
        seed, call = random.next_call()
        draw = {"p": self.p, "seed": seed, "call": call}
        self.save(draw)
        return kernels.dropout(x, **draw)

    def backward(self, dy: Any, input_grad: bool = True) -> Any:
        """Return dy with the same elements dropped."""
        if not input_grad:
            return None
        draw = self.saved()
        return dy if draw is None else backend.of(dy).dropout(dy, **draw)

    def extra_repr(self) -> str:
        """Return the arguments that `repr` shows."""
        return f"p={self.p}, inplace={self.inplace}"
