"""Dropout of elements and of whole channels."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnk import backend, random
from nnk.nn import arguments
from nnk.nn.module import Module

__all__ = ["Dropout", "Dropout2d"]


class Dropout(Module):
    """In training, each element is 0 with probability p, else x / (1 - p); in eval mode y = x. Any shape.

    Which elements are dropped depends on `nnk.manual_seed` and on how many random calls came before, not on the
    backend, the memory order or the number of threads. `inplace` is accepted and changes nothing.

    Raises ValueError unless 0 <= p <= 1.
    Source: Srivastava et al. (2014), "Dropout: a simple way to prevent neural networks from overfitting".
    """

    def __init__(self, p: float = 0.5, inplace: bool = False):
        if not 0 <= arguments.number(p, "p") <= 1:
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


class Dropout2d(Dropout):
    """In training, each channel of each sample is 0 with probability p, else x / (1 - p); in eval mode y = x.

    The input is (N, C, H, W) or (N, C, L). Neighbouring pixels of a feature map say nearly the same, so dropping single
    ones would change little. Draws are as for `Dropout`, one for each channel of each sample.

    Raises ValueError unless 0 <= p <= 1, and on inputs with another number of axes.
    Source: Tompson et al. (2015), "Efficient object localization using convolutional networks", arXiv:1411.4280.
    """

    def forward(self, x: Any) -> Any:
        """Return `x` with some channels dropped."""
        x = backend.as_array(x)
        if x.ndim not in (3, 4):
            raise ValueError(f"Dropout2d: the input has shape {x.shape}, expected (N, C, H, W) or (N, C, L)")
        kernels = backend.of(x)
        if not self.training or self.p == 0:
            self.save(None)
            return x
        seed, call = random.next_call()
        scale = kernels.dropout(np.ones_like(x, shape=x.shape[:2]), p=self.p, seed=seed, call=call)
        self.save(scale)
        return _scaled(kernels, x, scale)

    def backward(self, dy: Any, input_grad: bool = True) -> Any:
        """Return dy with the same channels dropped."""
        if not input_grad:
            return None
        scale = self.saved()
        return dy if scale is None else _scaled(backend.of(dy), dy, scale)


def _scaled(kernels: Any, x: Any, scale: Any) -> Any:
    return kernels.scale_channels(x, scale) if x.ndim == 4 else kernels.scale_channels(x[:, :, None], scale)[:, :, 0]
