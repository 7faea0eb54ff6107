"""What norms have in common: weight and bias, and statistics that run along."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnk.nn import arguments, init
from nnk.nn.module import Module
from nnk.nn.parameter import Parameter

__all__ = ["Norm", "RunningNorm"]


class Norm(Module):
    """A norm with a weight that starts at 1 and a bias that starts at 0, or without."""

    weight: Parameter | None
    bias: Parameter | None

    def _fill(self, shape: tuple[int, ...], weight: bool, bias: bool, device: str | None, dtype: Any) -> None:
        self.weight = Parameter(init.full(shape, 1.0, device, dtype)) if weight else None
        self.bias = Parameter(init.full(shape, 0.0, device, dtype)) if weight and bias else None

    def reset_parameters(self) -> None:
        """Set the weight to 1 and the bias to 0."""
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def _arrays(self) -> list:
        """Return weight and bias as arrays, or None."""
        return [None if p is None else p.data for p in (self.weight, self.bias)]

    def _accumulate(self, dweight: Any, dbias: Any) -> None:
        """Add the gradients of weight and bias, where they want any."""
        if self.weight is not None and self.weight.requires_grad:
            self.weight.accumulate(dweight)
        if self.bias is not None and self.bias.requires_grad:
            self.bias.accumulate(dbias)


class RunningNorm(Norm):
    """The arguments, parameters and buffers of batch and instance norms, under PyTorch's names."""

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-05,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: str | None = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ):
        self.num_features = arguments.integer(num_features, "num_features", 1)
        self.eps = arguments.number(eps, "eps")
        self.momentum = None if momentum is None else arguments.number(momentum, "momentum")
        self.affine = affine
        self.track_running_stats = track_running_stats
        self._fill((num_features,), affine, bias, device, dtype)

        def vector(value: float) -> Any:
            return init.full((num_features,), value, device, dtype) if track_running_stats else None

        self.register_buffer("running_mean", vector(0.0))
        self.register_buffer("running_var", vector(1.0))
        self.register_buffer("num_batches_tracked", np.zeros((), np.int64) if track_running_stats else None)

    def reset_running_stats(self) -> None:
        """Set the running mean to 0, the running variance to 1 and the count of batches to 0."""
        if self.running_mean is not None:
            self.running_mean[...] = 0
            self.running_var[...] = 1
            self.num_batches_tracked[...] = 0

    def reset_parameters(self) -> None:
        """Reset the running statistics, and set the weight to 1 and the bias to 0."""
        self.reset_running_stats()
        super().reset_parameters()

    def extra_repr(self) -> str:
        """Return the arguments that `repr` shows."""
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )
