"""The convolution layer."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from nnk import backend
from nnk.nn import arguments, init
from nnk.nn.arguments import Pair
from nnk.nn.module import Module
from nnk.nn.parameter import Parameter
from nnk.nn.pending import thread

__all__ = ["Conv2d"]

_MODES = ("zeros", "reflect", "replicate", "circular")


class Conv2d(Module):
    """Two-dimensional convolution (cross-correlation) of images (N, C, H, W), or of one image (C, H, W).

        y[n, k, p, q] = b[k] + sum over c, r, s of W[k, c, r, s] * x[n, c, p*stride + r*dilation - padding, ...]

    x is zero outside its borders. With `groups`, output channels see only the input channels of their group. The output
    has floor((H + 2*padding - dilation*(kernel_size - 1) - 1) / stride) + 1 rows, likewise columns.
    `weight` is (out_channels, in_channels / groups, kernel height, kernel width), `bias` (out_channels,). Both start
    uniform in ±1/sqrt(fan_in), as in PyTorch.

    Sizes take an int or (height, width). `padding` may also be "valid", none, or "same", which needs stride 1 and adds
    an odd zero at the end. Other than "zeros", `padding_mode` takes "reflect" (at the centre of the border pixel),
    "replicate" (the border pixel) and "circular" (the pixels of the other end): the padded image is then a copy.

    How 3x3 filters are computed depends on `nnk.set_precision`.

    Raises ValueError on arguments out of range and on inputs with another number of axes or channels, or smaller than
    the kernel; TypeError on another dtype than the weight's.
    Source: Dumoulin and Visin (2016), arXiv:1603.07285.
    """

    fuses_as: ClassVar = "conv"

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Pair | str = 0,
        dilation: Pair = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: str | None = None,
        dtype: Any = None,
    ):
        self.in_channels = arguments.integer(in_channels, "in_channels", 1)
        self.out_channels = arguments.integer(out_channels, "out_channels", 1)
        self.kernel_size = arguments.pair(kernel_size, "kernel_size", 1)
        self.stride = arguments.pair(stride, "stride", 1)
        self.dilation = arguments.pair(dilation, "dilation", 1)
        self.groups = arguments.integer(groups, "groups", 1)
        self.padding = padding if isinstance(padding, str) else arguments.pair(padding, "padding", 0)
        if isinstance(padding, str):
            if padding not in ("same", "valid"):
                raise ValueError(f"padding is {padding!r}, expected 'same', 'valid', an int or a pair of ints")
            if padding == "same" and self.stride != (1, 1):
                raise ValueError(f"padding='same' needs stride 1, got stride {self.stride}")
        for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            if channels % groups:
                raise ValueError(f"groups is {groups}, which does not divide {name}, {channels}")
        if padding_mode not in _MODES:
            raise ValueError(f"padding_mode is {padding_mode!r}, expected one of {', '.join(map(repr, _MODES))}")
        self.padding_mode = padding_mode
        self.weight = Parameter(
            init.empty((out_channels, in_channels // groups, *self.kernel_size), device, dtype)
        )
        self.bias = Parameter(init.empty((out_channels,), device, dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weight and the bias anew."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(math.prod(self.weight.shape[1:]))
            init.uniform_(self.bias, -bound, bound)

    def _window(self) -> dict[str, Any]:
        padding = self.padding
        if padding == "valid":
            padding = (0, 0)
        elif padding == "same":
            spans = [d * (k - 1) for d, k in zip(self.dilation, self.kernel_size)]
            padding = tuple((span // 2, span - span // 2) for span in spans)
        return {
            "stride": self.stride,
            "padding": padding,
            "dilation": self.dilation,
            "groups": self.groups,
            "precision": backend.get_precision(),
        }

    def forward(self, x: Any, norm: Any = None, tail: Any = None, statistics: list | None = None) -> Any:
        """Return the convolution of `x` with the weight, plus the bias.

        `norm`, `tail` and `statistics` are explained in `nnk.nn.fusion`.
        """
        x = backend.as_array(x)
        weight, bias = self.weight.data, None if self.bias is None else self.bias.data
        scale = None
        if norm is not None:
            scale, bias = norm.folded_into(bias)
        kernels = backend.of(x, weight, scale, bias)
        window = self._window()
        self._check(x, window["padding"])
        single = x.ndim == 3
        x = backend.channels_last(x[None] if single else x)
        frame = None
        if self.padding_mode != "zeros":
            ends = tuple(p if isinstance(p, tuple) else (p, p) for p in window["padding"])
            frame = {"padding": ends, "mode": self.padding_mode}
            window["padding"] = (0, 0)
            x = kernels.pad2d(x, **frame)
        self.save(x, single, window, frame)
        # Without gradients the weight is likely the one of the last call, and of the next.
        options = {**window, "scale": scale, "keep_packed": not thread.saving}
        if tail is not None:
            options |= self._options(tail, x, single, window)
        if statistics is None:
            y = kernels.conv2d(x, weight, bias, **options)
        else:
            y, of_y = kernels.conv2d(x, weight, bias, **options, statistics=True)
            statistics.append(of_y)
        return y[0] if single else y

    def _options(self, tail: Any, x: Any, single: bool, window: dict[str, Any]) -> dict[str, Any]:
        axes = x.shape[2:], self.kernel_size, window["stride"], window["padding"], window["dilation"]
        shape = (len(x), self.out_channels, *map(backend.shapes.conv_output_size, *axes))
        residual, rectify = tail(shape[1:] if single else shape)
        if residual is not None:
            backend.of(x, residual)
            residual = residual[None] if single else residual
        return {"residual": residual, "activation": "relu" if rectify else None}

    def _check(self, x: Any, padding: tuple) -> None:
        if x.ndim not in (3, 4) or x.shape[-3] != self.in_channels:
            raise ValueError(
                f"Conv2d: the input has shape {x.shape}, expected (N, {self.in_channels}, H, W) or "
                f"({self.in_channels}, H, W): in_channels is {self.in_channels}"
            )
        for axis in (0, 1):
            size, kernel, dilation = x.shape[axis - 2], self.kernel_size[axis], self.dilation[axis]
            if backend.shapes.conv_output_size(size, kernel, 1, padding[axis], dilation) < 1:
                raise ValueError(
                    f"Conv2d: the input has shape {x.shape}, with padding {self.padding} too small for kernel_size "
                    f"{self.kernel_size} with dilation {self.dilation}"
                )
            most = {"reflect": size - 1, "circular": size}.get(self.padding_mode)
            if most is not None and np.max(padding[axis]) > most:
                raise ValueError(
                    f"Conv2d: the input has shape {x.shape}, too small for padding {self.padding} with padding_mode "
                    f"{self.padding_mode!r}, which takes at most {most} there"
                )

    def backward(self, dy: Any, input_grad: bool = True) -> Any:
        """Add the gradients of weight and bias; return that to the input."""
        x, single, window, frame = self.saved()
        weight = self.weight.data
        kernels = backend.of(dy, weight)
        dy = backend.channels_last(dy[None] if single else dy)
        if self.weight.requires_grad:
            self.weight.accumulate(kernels.conv2d_wgrad(dy, x, weight.shape, **window))
        if self.bias is not None and self.bias.requires_grad:
            self.bias.accumulate(kernels.conv2d_bgrad(dy))
        if input_grad:
            dx = kernels.conv2d_dgrad(dy, weight, x.shape, **window)
            if frame is not None:
                rows, columns = (size - sum(ends) for size, ends in zip(x.shape[2:], frame["padding"]))
                dx = kernels.pad2d_backward(dx, (*x.shape[:2], rows, columns), **frame)
            return dx[0] if single else dx

    def extra_repr(self) -> str:
        """Return the arguments that `repr` shows."""
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        if self.padding not in ((0, 0), "valid"):
            text += f", padding={self.padding}"
        if self.dilation != (1, 1):
            text += f", dilation={self.dilation}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        if self.bias is None:
            text += ", bias=False"
        return text if self.padding_mode == "zeros" else text + f", padding_mode={self.padding_mode}"
