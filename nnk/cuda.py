"""The GPU, if there is one."""

from nnk.backend import cuda_problem, synchronize

__all__ = ["is_available", "synchronize"]


def is_available() -> bool:
    """Return whether nnk can compute on a GPU: numba-cuda, cuda.bindings, CuPy and a device are all there."""
    return cuda_problem() is None
