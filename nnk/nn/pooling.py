"""Pooling layers: the maximum or the mean of a window that slides over each channel.

Sizes take an int or (height, width); an empty stride is none.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nnk import backend
from nnk.nn import arguments
from nnk.nn.arguments import Pair, spread
from nnk.nn.module import Module

__all__ = ["AdaptiveAvgPool2d", "AdaptiveMaxPool2d", "AvgPool2d", "MaxPool2d"]


def _images(x: Any, name: str) -> tuple[Any, bool]:
    """Return the input as (N, C, H, W) and whether it was a single image; raise ValueError if it is no image."""
    x = backend.as_array(x)
    if x.ndim not in (3, 4) or 0 in x.shape[-3:]:
        raise ValueError(f"{name}: the input has shape {x.shape}, expected (N, C, H, W) or (C, H, W), not empty")
    return (x, False) if x.ndim == 4 else (x[None], True)


class _Windowed(Module):
    """What the maximum and the mean of a window have in common: its arguments and their checks."""

    dilation: Pair = 1

    def __init__(self, kernel_size: Pair, stride: Pair | None, padding: Pair, ceil_mode: bool):
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None or stride in ((), []) else stride
        self.padding = padding
        self.ceil_mode = ceil_mode
        kernel = arguments.pair(kernel_size, "kernel_size", 1)
        arguments.pair(self.stride, "stride", 1)
        for size, pad in zip(kernel, arguments.pair(padding, "padding", 0)):
            if pad > size // 2:
                raise ValueError(f"padding is {padding}, expected at most half of kernel_size, {kernel_size}")

    def _window(self) -> dict[str, Any]:
        return {
            "kernel_size": spread(self.kernel_size),
            "stride": spread(self.stride),
            "padding": spread(self.padding),
        }

    def _check(self, x: Any) -> None:
        sizes = map(spread, (self.kernel_size, self.stride, self.padding, self.dilation))
        for size, *window in zip(x.shape[2:], *sizes):
            if backend.shapes.pool_output_size(size, *window, self.ceil_mode) < 1:
                raise ValueError(
                    f"{type(self).__name__}: the input has shape {x.shape}, with padding {self.padding} too small for "
                    f"kernel_size {self.kernel_size}"
                )


class MaxPool2d(_Windowed):
    """The maximum of each window; the gradient goes to its first maximum.

    A NaN in the window is the maximum. Padding counts as -inf, and `dilation` spreads the window. With `return_indices`
    the output is (y, indices), indices (int64) counting along the rows of the channel, as PyTorch's do.

    Images are (N, C, H, W) or one (C, H, W). The output has floor((H + 2*padding - dilation*(kernel_size - 1) - 1) /
    stride) + 1 rows, columns likewise, rounded up with `ceil_mode` if the last window then starts inside the image or
    its left padding. Without a stride windows lie side by side.

    Raises ValueError on arguments out of range and on inputs with another number of axes or smaller than the window,
    TypeError on inputs that are no floats.
    Source: Scherer, Müller and Behnke (2010), "Evaluation of pooling operations in convolutional architectures".
    """

    def __init__(
        self,
        kernel_size: Pair,
        stride: Pair | None = None,
        padding: Pair = 0,
        dilation: Pair = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ):
        super().__init__(kernel_size, stride, padding, ceil_mode)
        arguments.pair(dilation, "dilation", 1)
        self.dilation = dilation
        self.return_indices = return_indices

    def _window(self) -> dict[str, Any]:
        return {**super()._window(), "dilation": spread(self.dilation)}

    def forward(self, x: Any) -> Any:
        """Return the maxima, with `return_indices` also where they were."""
        x, single = _images(x, "MaxPool2d")
        self._check(x)
        window = self._window()
        y, indices = backend.of(x).max_pool2d(x, **window, ceil_mode=self.ceil_mode)
        self.save(indices, x.shape, window, single)
        if not self.return_indices:
            return y[0] if single else y
        flat = _flat_indices(indices, x.shape[3], **window)
        return (y[0], flat[0]) if single else (y, flat)

    def backward(self, dy: Any, input_grad: bool = True) -> Any:
        """Return dy at the place of each window's maximum, summed where windows share it, 0 elsewhere."""
        if not input_grad:
            return None
        indices, shape, window, single = self.saved()
        dx = backend.of(dy).max_pool2d_backward(dy[None] if single else dy, indices, shape, **window)
        return dx[0] if single else dx

    def extra_repr(self) -> str:
        """Return the arguments that `repr` shows."""
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, ceil_mode={self.ceil_mode}"
        )


def _flat_indices(
    indices: Any, width: int, kernel_size: tuple, stride: tuple, padding: tuple, dilation: tuple
) -> Any:
    """Turn positions inside each window into positions inside the channel, row by row."""
    positions = indices.astype(np.int64)
    rows = positions // kernel_size[1] * dilation[0]
    columns = positions % kernel_size[1] * dilation[1]
    first_rows = np.arange(indices.shape[2]) * stride[0] - padding[0]
    first_columns = np.arange(indices.shape[3]) * stride[1] - padding[1]
    device = backend.device_of(indices)
    rows += backend.asarray_on(first_rows, device)[:, None]
    columns += backend.asarray_on(first_columns, device)
    return rows * width + columns


class AvgPool2d(_Windowed):
    """The mean of each window; each of its elements gets an equal share of the gradient.

    Zeros of the padding count as elements with `count_include_pad`; `divisor_override` divides the sum instead.

    Shapes and errors are those of `MaxPool2d`, with a dilation of 1.
    Source: LeCun et al. (1998), "Gradient-based learning applied to document recognition", section II.A.
    """

    def __init__(
        self,
        kernel_size: Pair,
        stride: Pair | None = None,
        padding: Pair = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ):
        super().__init__(kernel_size, stride, padding, ceil_mode)
        if divisor_override is not None and arguments.integer(divisor_override, "divisor_override") == 0:
            raise ValueError("divisor_override is 0, expected another int or None")
        self.count_include_pad = count_include_pad
        self.divisor_override = divisor_override

    def _window(self) -> dict[str, Any]:
        return {
            **super()._window(),
            "ceil_mode": self.ceil_mode,
            "count_include_pad": self.count_include_pad,
            "divisor_override": self.divisor_override,
        }

    def forward(self, x: Any) -> Any:
        """Return the means."""
        x, single = _images(x, "AvgPool2d")
        self._check(x)
        window = self._window()
        y = backend.of(x).avg_pool2d(x, **window)
        self.save(x.shape, window, single)
        return y[0] if single else y

    def backward(self, dy: Any, input_grad: bool = True) -> Any:
        """Return each element's shares of the windows that it is in."""
        if not input_grad:
            return None
        shape, window, single = self.saved()
        dx = backend.of(dy).avg_pool2d_backward(dy[None] if single else dy, shape, **window)
        return dx[0] if single else dx

    def extra_repr(self) -> str:
        """Return the arguments that `repr` shows."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class _Adaptive(Module):
    """What both kinds of adaptive pooling have in common: the grid of cells."""

    def __init__(self, output_size: int | tuple[int | None, ...] | None):
        self.output_size = output_size
        arguments.pair(self._grid((1, 1)), "output_size", 0)

    def _grid(self, image: tuple[int, ...]) -> Any:
        cells = self.output_size
        if not isinstance(cells, (tuple, list)):
            cells = (cells, cells)
        return tuple(own if asked is None else asked for own, asked in zip(image * len(cells), cells))

    def extra_repr(self) -> str:
        """Return the arguments that `repr` shows."""
        return f"output_size={self.output_size}"


class AdaptiveMaxPool2d(_Adaptive):
    """The maximum of each cell of an even grid of `output_size` cells; the gradient goes to its first maximum.

    Cells are those of AdaptiveAvgPool2d. A NaN in the cell is the maximum. With `return_indices` the output is
    (y, indices), indices (int64) counting along the rows of the channel.

    Shapes and errors are those of `AdaptiveAvgPool2d`.
    Source: He et al. (2014), "Spatial pyramid pooling in deep convolutional networks", arXiv:1406.4729.
    """

    def __init__(self, output_size: int | tuple[int | None, ...] | None, return_indices: bool = False):
        super().__init__(output_size)
        self.return_indices = return_indices

    def forward(self, x: Any) -> Any:
        """Return the maxima, with `return_indices` also where they were."""
        x, single = _images(x, "AdaptiveMaxPool2d")
        y, indices = backend.of(x).adaptive_max_pool2d(x, output_size=spread(self._grid(x.shape[2:])))
        self.save(indices, x.shape, single)
        if not self.return_indices:
            return y[0] if single else y
        flat = indices.astype(np.int64)
        return (y[0], flat[0]) if single else (y, flat)

    def backward(self, dy: Any, input_grad: bool = True) -> Any:
        """Return dy at the place of each cell's maximum, summed where cells share it, 0 elsewhere."""
        if not input_grad:
            return None
        indices, shape, single = self.saved()
        dx = backend.of(dy).adaptive_max_pool2d_backward(dy[None] if single else dy, indices, shape)
        return dx[0] if single else dx


class AdaptiveAvgPool2d(_Adaptive):
    """The mean of each cell of an even grid of `output_size` cells, whatever the size of the image.

    Cell p of P spans the rows floor(p*H/P) to ceil((p+1)*H/P), columns likewise. `output_size` is an int or (height,
    width); None in it keeps the size of the image there. Images are (N, C, H, W) or one (C, H, W).

    Raises ValueError on sizes below 0 and on inputs with another number of axes or without pixels, TypeError on inputs
    that are no floats.
    Source: Lin, Chen and Yan (2014), "Network in network", arXiv:1312.4400, section 3.2, for a single cell.
    """

    def forward(self, x: Any) -> Any:
        """Return the means."""
        x, single = _images(x, "AdaptiveAvgPool2d")
        y = backend.of(x).adaptive_avg_pool2d(x, output_size=spread(self._grid(x.shape[2:])))
        self.save(x.shape, single)
        return y[0] if single else y

    def backward(self, dy: Any, input_grad: bool = True) -> Any:
        """Return each element's shares of the cells that it is in."""
        if not input_grad:
            return None
        shape, single = self.saved()
        dx = backend.of(dy).adaptive_avg_pool2d_backward(dy[None] if single else dy, shape)
        return dx[0] if single else dx
