"""Layers that take the largest of several affine functions, which is what makes them nonlinear.

Piece j of unit c is output j * units + c of the layer inside: of `linear`, or of `conv` within each group.
"""

from __future__ import annotations

from typing import Any

from nnk import backend
from nnk.nn import arguments
from nnk.nn.arguments import Pair
from nnk.nn.conv import Conv2d
from nnk.nn.linear import Linear
from nnk.nn.module import Module

__all__ = ["Maxout", "Maxout2d"]


class Maxout(Module):
    """y = max over j of (W_j x + b_j) over the last axis: x (*, in_features) -> y (*, out_features).

    The gradient goes to the piece that was largest, to the first of equal ones. `linear` is the `Linear` layer with
    pieces * out_features outputs that makes the pieces.

    Raises what `Linear` raises, and ValueError unless there is a piece.
    Source: Goodfellow et al. (2013), "Maxout networks", arXiv:1302.4389.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        pieces: int,
        bias: bool = True,
        device: str | None = None,
        dtype: Any = None,
    ):
        self.pieces = arguments.integer(pieces, "pieces", 1)
        outputs = arguments.integer(out_features, "out_features", 0) * pieces
        self.linear = Linear(in_features, outputs, bias, device, dtype)

    def forward(self, x: Any) -> Any:
        """Return the largest of the pieces."""
        made = self.linear(x)
        rows = made.reshape(made.size // max(made.shape[-1], 1), made.shape[-1])
        y, indices = backend.of(made).maxout(rows, pieces=self.pieces)
        self.save(indices, made.shape)
        return y.reshape(*made.shape[:-1], y.shape[1])

    def backward(self, dy: Any, input_grad: bool = True) -> Any:
        """Add the gradients of the weight and the bias; return that to the input."""
        indices, shape = self.saved()
        pieces = backend.of(dy).maxout_backward(dy.reshape(indices.shape), indices, pieces=self.pieces)
        return self.linear.backward(pieces.reshape(shape), input_grad=input_grad)

    def extra_repr(self) -> str:
        """Return the arguments that `repr` shows."""
        return f"pieces={self.pieces}"


class Maxout2d(Module):
    """The largest of several convolutions: images (N, in_channels, H, W), or one, to out_channels channels.

    The gradient goes to the piece that was largest, to the first of equal ones. `conv` is the `Conv2d` layer with
    pieces * out_channels outputs that makes the pieces; the arguments behind `pieces` are its own.

    Raises what `Conv2d` raises, and ValueError unless there is a piece.
    Source: Goodfellow et al. (2013), "Maxout networks", arXiv:1302.4389.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        pieces: int,
        stride: Pair = 1,
        padding: Pair | str = 0,
        dilation: Pair = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: str | None = None,
        dtype: Any = None,
    ):
        self.pieces = arguments.integer(pieces, "pieces", 1)
        if arguments.integer(out_channels, "out_channels", 1) % arguments.integer(groups, "groups", 1):
            raise ValueError(f"groups is {groups}, which does not divide out_channels, {out_channels}")
        self.conv = Conv2d(
            in_channels,
            out_channels * pieces,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            bias,
            padding_mode,
            device,
            dtype,
        )

    def forward(self, x: Any) -> Any:
        """Return the largest of the pieces."""
        made = self.conv(x)
        single = made.ndim == 3
        y, indices = backend.of(made).maxout(made[None] if single else made, **self._options())
        self.save(indices, single)
        return y[0] if single else y

    def backward(self, dy: Any, input_grad: bool = True) -> Any:
        """Add the gradients of the weight and the bias; return that to the input."""
        indices, single = self.saved()
        pieces = backend.of(dy).maxout_backward(dy[None] if single else dy, indices, **self._options())
        return self.conv.backward(pieces[0] if single else pieces, input_grad=input_grad)

    def _options(self) -> dict[str, int]:
        return {"pieces": self.pieces, "groups": self.conv.groups}

    def extra_repr(self) -> str:
        """Return the arguments that `repr` shows."""
        return f"pieces={self.pieces}"
