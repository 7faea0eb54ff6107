"""Output sizes of windows that slide over one axis, in PyTorch's arithmetic. Python ints, no arrays."""

from __future__ import annotations


def conv_output_size(
    size: int, kernel: int, stride: int, padding: int | tuple[int, int], dilation: int
) -> int:
    """How many positions a convolution window has on an axis.

        floor((size + before + after - dilation * (kernel - 1) - 1) / stride) + 1

    `padding` is one int for both ends or (before, after). A result below 1 means that the dilated kernel
    does not fit into the padded axis.
    Source: Dumoulin and Visin (2016), arXiv:1603.07285, relationship 15; torch.nn.Conv2d.
    """
    before, after = (padding, padding) if isinstance(padding, int) else padding
    return (size + before + after - dilation * (kernel - 1) - 1) // stride + 1


def pool_output_size(
    size: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool
) -> int:
    """How many positions a pooling window has on an axis.

    As for a convolution; with `ceil_mode` the division rounds up, so that the last window may hang over the
    end, but it must start inside the input or its left padding, else it is dropped.
    Source: torch.nn.MaxPool2d.
    """
    if not ceil_mode:
        return conv_output_size(size, kernel, stride, padding, dilation)
    count = conv_output_size(size, kernel, stride, (padding, padding + stride - 1), dilation)
    return count - 1 if (count - 1) * stride >= size + padding else count


def padded_sources(size: int, before: int, after: int, mode: str) -> list[int]:
    """For each position of a padded axis, the position of the axis that it is a copy of.

    `mode` is "reflect" (at most size - 1 at an end), "replicate" or "circular" (at most size).
    Source: torch.nn.functional.pad.
    """
    if mode == "reflect":
        turn = max(1, 2 * (size - 1))
        return [min(i % turn, -i % turn) for i in range(-before, size + after)]
    if mode == "replicate":
        return [min(max(i, 0), size - 1) for i in range(-before, size + after)]
    return [i % size for i in range(-before, size + after)]


def repeated_axes(shape: tuple[int, ...], full: tuple[int, ...]) -> tuple[int, ...]:
    """The axes of `full` along which an array of `shape` is repeated when it is broadcast to `full`."""
    lead = len(full) - len(shape)
    return tuple(axis for axis, size in enumerate(full) if axis < lead or shape[axis - lead] != size)
