"""Batch-instance normalisation."""

from __future__ import annotations

from typing import Any

from nnk import backend
from nnk.nn import init
from nnk.nn.batchnorm import BatchNorm2d
from nnk.nn.instancenorm import check_positions
from nnk.nn.parameter import Parameter

__all__ = ["BatchInstanceNorm2d"]


class BatchInstanceNorm2d(BatchNorm2d):
    """Batch-instance normalisation of images (N, C, H, W): each channel learns how much of its style to keep.

        y = weight * (gate * x_B + (1 - gate) * x_I) + bias

    where x_B is x normalised with the batch's statistics, as `BatchNorm2d` does with `eps`, `momentum` and
    `track_running_stats` in both modes, and x_I is x normalised with those of each image, as `InstanceNorm2d` does.
    Backward goes through the statistics of both.

    `gate` (C,) starts at 1, which is batch norm, and lies in [0, 1]: optimisers clip it after each update (it is a
    `Parameter` with a constraint). Where it is clipped its gradient is nevertheless that of the formula above, so it
    finds its way back. `weight`, `bias` and the buffers are those of `BatchNorm2d`.

    Raises ValueError on an input with another number of axes or channels, on images with a single value per channel,
    and in training on an `eps` that is not positive; TypeError on another dtype than the gate's.
    Source: Nam and Kim (2018), arXiv:1805.07925, section 3.
    """

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
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias)
        self.gate = Parameter(init.full((num_features,), 1.0, device, dtype), constraint=_clip)

    def reset_parameters(self) -> None:
        """Reset the running statistics, and set the weight and the gate to 1 and the bias to 0."""
        super().reset_parameters()
        init.ones_(self.gate)

    def forward(self, x: Any) -> Any:
        """Return `x` normalised."""
        x = backend.as_array(x)
        self._check(x)
        check_positions(self, x)
        weight, bias = self._arrays()
        gate = self.gate.data
        kernels = backend.of(x, gate, weight, bias, self.running_mean, self.running_var)
        if self.by_batch:
            self._check_batch(x)
        x = backend.channels_last(x)
        shares = _times(gate, weight), _times(1 - gate, weight)
        normalise = self._by_batch if self.by_batch else self._by_running
        of_batch, backward, _ = normalise(kernels, x, [shares[0], bias], ())
        options = {"num_groups": self.num_features, "eps": self.eps}
        of_instances, mean, var = kernels.group_norm(x, shares[1], None, **options)
        self.save(x, shares, backward, mean, var)
        return kernels.add(of_batch, of_instances)

    def backward(self, dy: Any, input_grad: bool = True) -> Any:
        """Add the gradients of gate, weight and bias; return that to the input."""
        x, shares, backward, mean, var = self.saved()
        gate, weight = self.gate.data, self._arrays()[0]
        kernels = backend.of(dy, gate)
        # Both norms' weights, gate * weight and (1 - gate) * weight, have gradients of their own.
        options = {"num_groups": self.num_features, "eps": self.eps}
        through_batch, of_batch, dbias = backward(dy, x, shares[0])
        through_instances, of_instances, _ = kernels.group_norm_backward(dy, x, shares[1], mean, var, **options)
        self._accumulate(gate * of_batch + (1 - gate) * of_instances, dbias)
        if self.gate.requires_grad:
            self.gate.accumulate(_times(of_batch - of_instances, weight))
        return kernels.add(through_batch, through_instances) if input_grad else None


def _times(x: Any, weight: Any) -> Any:
    return x if weight is None else x * weight


def _clip(gate: Any) -> None:
    gate.clip(0, 1, out=gate)
