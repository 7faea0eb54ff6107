"""Mixed precision: images and their gradients in 16 bits, parameters, statistics and losses in 32."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnk import backend, nn, optim

from .loss_scale import LossScale

PRECISIONS = {None: "float32", "bf16": "bfloat16", "fp16": "float16"}


class MixedPrecision:
    """How a step trains a float32 model on 16-bit arrays, on a GPU.

    The batch is rounded to 16 bits at the model's door, and so are all images inside; the tensor cores multiply them
    and add up in float32. Parameters stay float32, and are what the optimiser updates: they are rounded where a kernel
    packs them. The model's output is widened before the loss, and the loss's gradient rounded behind it.

    bfloat16 has float32's range. float16 has not: small gradients would vanish, so the loss is scaled (`LossScale`).

    Source: Micikevicius et al. (2018), Mixed precision training, arXiv:1710.03740, section 3.1.
    """

    def __init__(self, name: str | None):
        if name not in PRECISIONS:
            raise ValueError(f"precision is {name!r}, expected one of {', '.join(map(repr, PRECISIONS))}")
        self.name = name
        self.dtype = backend.named_dtype(PRECISIONS[name])
        self.loss_scale = LossScale() if name == "fp16" else None

    def check(self, model: nn.Module) -> None:
        """Raise ValueError unless the model is float32 and computes on a GPU."""
        if self.name is None:
            return
        for name, parameter in model.named_parameters():
            if parameter.dtype != np.float32:
                found = f"the model's {name} is {parameter.dtype}"
                raise ValueError(f"precision is {self.name!r}, but {found}, expected float32")
            if not backend.on_gpu(parameter.data):
                raise ValueError(
                    f"precision is {self.name!r}, but the model's {name} is on the CPU, whose kernels are float32: "
                    "move the model with model.to('cuda')"
                )

    def narrow(self, x: Any) -> Any:
        """Return x in 16 bits, for the model."""
        return x if self.name is None or x.dtype == self.dtype else x.astype(self.dtype)

    def widen(self, y: Any) -> Any:
        """Return y in float32, for the loss."""
        return y if self.name is None or y.dtype == np.float32 else y.astype(np.float32)

    def weigh(self, gradient: Any) -> Any:
        """Return the gradient of the loss to itself, as backward shall begin with it."""
        return gradient if self.loss_scale is None else self.loss_scale.times(gradient)

    def update(self, optimizer: optim.Optimizer, clipping: dict[str, float]) -> None:
        """Let the optimiser make its update from the gradients of what `weigh` returned."""
        if self.loss_scale is None:
            optimizer.step(**clipping)
        else:
            self.loss_scale.update(optimizer, clipping)

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` takes."""
        return {} if self.loss_scale is None else self.loss_scale.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with a scale."""
        if self.loss_scale is not None:
            self.loss_scale.load_state_dict(state)
