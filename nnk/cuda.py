"""The GPU, if there is one."""

from nnk.backend import cuda_problem

__all__ = ["is_available"]


def is_available() -> bool:
    """Return whether nnk can compute on a GPU: its CUDA kernels, CuPy and a device are all there."""
    return cuda_problem() is None
