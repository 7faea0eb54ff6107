"""Noise on inputs."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnk import backend, random
from nnk.dials import only_eager
from nnk.nn import arguments
from nnk.nn.module import Module

__all__ = ["GaussianNoise"]

_STREAM = 0x6E6F6973  # apart from the numbers of augmentations, which count their streams from 0


class GaussianNoise(Module):
    """In training, y = x + std * z with z standard normal, drawn anew for every element; in eval mode y = x. Any shape.

    Training with small noise on the inputs comes near to a penalty on the gradient of the loss to them. The noise
    depends on `nnk.manual_seed` and on how many random calls came before, not on the backend, the memory order or the
    number of threads.

    Raises ValueError unless std is finite and >= 0.
    Source: Bishop (1995), "Training with noise is equivalent to Tikhonov regularization".
    """

    def __init__(self, std: float):
        if not 0 <= arguments.number(std, "std") < float("inf"):
            raise ValueError(f"std is {std}, expected a finite number >= 0")
        self.std = std

    def forward(self, x: Any) -> Any:
        """Return `x` with noise."""
        x = backend.as_array(x)
        kernels = backend.of(x)
        if not self.training or self.std == 0:
            return x
        only_eager("GaussianNoise")
        seed, call = random.next_call()
        images = x if x.ndim == 4 else x.reshape(1, 1, 1, x.size)
        std = np.full_like(x, self.std, shape=len(images))
        samples = backend.asarray_on(np.arange(len(images)), backend.device_of(x))
        key = {"seed": seed, "call": call & 0xFFFFFFFF, "stream": _STREAM ^ call >> 32}
        return kernels.image_noise(images, std, samples, **key).reshape(x.shape)

    def backward(self, dy: Any, input_grad: bool = True) -> Any:
        """Return dy: the noise does not depend on x."""
        return dy if input_grad else None

    def extra_repr(self) -> str:
        """Return the arguments that `repr` shows."""
        return f"std={self.std}"
