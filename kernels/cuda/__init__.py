"""The kernels for NVIDIA GPUs. They are not written yet: asking for one raises NotImplementedError."""

from ..ops import FILES


def __getattr__(name):
    if name in FILES:
        raise NotImplementedError(f"nnk has no CUDA kernel {name!r} yet: keep model and data on the CPU")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
