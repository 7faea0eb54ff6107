"""Squeeze and excitation: channels weighted by what the whole image shows."""

from __future__ import annotations

from typing import Any

from nnk import backend
from nnk.nn import arguments
from nnk.nn.activation import ReLU, Sigmoid
from nnk.nn.linear import Linear
from nnk.nn.module import Module
from nnk.nn.pooling import AdaptiveAvgPool2d

__all__ = ["SqueezeExcitation"]


class SqueezeExcitation(Module):
    """Each channel of an image times a gate between 0 and 1 that all its channels have a say in.

        y[n, c] = s[n, c] * x[n, c],    s[n] = sigmoid(W2 relu(W1 z[n] + b1) + b2)

    z[n, c] is the mean of channel c. `fc1` maps `channels` to channels // reduction features, `fc2` back. Images are
    (N, C, H, W), or one (C, H, W).

    Raises ValueError unless 1 <= reduction <= channels, and on inputs with another number of axes or channels.
    Source: Hu et al. (2018), "Squeeze-and-excitation networks", arXiv:1709.01507.
    """

    def __init__(self, channels: int, reduction: int = 16, device: str | None = None, dtype: Any = None):
        self.channels = arguments.integer(channels, "channels", 1)
        self.reduction = arguments.integer(reduction, "reduction", 1)
        if reduction > channels:
            raise ValueError(f"reduction is {reduction}, expected at most channels, {channels}")
        self.pool = AdaptiveAvgPool2d(1)
        self.fc1 = Linear(channels, channels // reduction, device=device, dtype=dtype)
        self.relu = ReLU()
        self.fc2 = Linear(channels // reduction, channels, device=device, dtype=dtype)
        self.sigmoid = Sigmoid()

    def forward(self, x: Any) -> Any:
        """Return the gated image."""
        x = backend.as_array(x)
        if x.ndim not in (3, 4) or x.shape[-3] != self.channels:
            raise ValueError(
                f"SqueezeExcitation: the input has shape {x.shape}, expected (N, {self.channels}, H, W) or "
                f"({self.channels}, H, W): channels is {self.channels}"
            )
        single = x.ndim == 3
        x = backend.channels_last(x[None] if single else x)
        means = self.pool(x).reshape(x.shape[:2])
        scale = self.sigmoid(self.fc2(self.relu(self.fc1(means))))
        self.save(x, scale, single)
        y = backend.of(x, scale).scale_channels(x, scale)
        return y[0] if single else y

    def backward(self, dy: Any, input_grad: bool = True) -> Any:
        """Add the gradients of `fc1` and `fc2`; return the sum of those through the image and through the gate."""
        x, scale, single = self.saved()
        kernels = backend.of(dy, scale)
        dx, dscale = kernels.scale_channels_backward(dy[None] if single else dy, x, scale)
        dhidden = self.relu.backward(self.fc2.backward(self.sigmoid.backward(dscale)))
        dmeans = self.fc1.backward(dhidden, input_grad=input_grad)
        if not input_grad:
            return None
        dx = kernels.add(dx, self.pool.backward(dmeans[:, :, None, None]))
        return dx[0] if single else dx

    def extra_repr(self) -> str:
        """Return the arguments that `repr` shows."""
        return f"{self.channels}, reduction={self.reduction}"
