"""The factor of a float16 step's loss, which follows its gradients."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnk import backend, nn, optim

FIRST, PATIENCE = 2.0**16, 2000


class LossScale:
    """A factor s of the loss, so large that small gradients do not vanish in float16, so small that none overflows.

    Gradients are taken times 1/s. When one of them is infinite or NaN the update is left out, and s halved; after 2000
    updates in a row without that, s is doubled. s, and whether an update is left out, are numbers on the device that
    only the device looks at: nobody waits, and a CUDA graph repeats it all.

    Source: Micikevicius et al. (2018), Mixed precision training, arXiv:1710.03740, section 3.2.
    """

    def __init__(self) -> None:
        self.scale = np.array(FIRST, np.float32)
        self.counts = np.zeros(2, np.int64)  # updates since the scale changed, updates that were left out

    def times(self, gradient: Any) -> Any:
        """Return the gradient of the loss to itself times s, in place."""
        self._follow(gradient)
        gradient *= self.scale
        return gradient

    def update(self, optimizer: optim.Optimizer, clipping: dict[str, float]) -> None:
        """Let the optimiser make its update from scaled gradients, or leave it out where one is not finite."""
        owners = (parameter for group in optimizer.param_groups for parameter in group["params"])
        gradients = [parameter.grad for parameter in owners if parameter.grad is not None]
        if gradients:
            self._follow(gradients[0])
            norm = nn.utils.get_total_norm(gradients)
            adjust = backend.kernels("cuda._loss_scale").adjust
            grad_scale, skip = adjust(norm, self.scale, self.counts, PATIENCE)
            optimizer.step(grad_scale=grad_scale, skip=skip, **clipping)

    def _follow(self, x: Any) -> None:
        """Go to x's device, for good."""
        device = backend.device_of(x)
        self.scale, self.counts = (backend.asarray_on(array, device) for array in (self.scale, self.counts))

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` takes: waits for the device."""
        good, skipped = backend.asarray_on(self.counts, "cpu").tolist()
        return {"scale": float(self.scale), "good": good, "skipped": skipped}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with a scale, in the arrays that graphs read."""
        self.scale.fill(state["scale"])
        self.counts[0], self.counts[1] = state["good"], state["skipped"]
