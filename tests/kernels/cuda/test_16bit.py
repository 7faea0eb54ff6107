"""Every op on float16 and bfloat16 memory, where only what is stored is rounded; and with threads in reverse order."""

import numpy as np
import pytest

from nnk.kernels import parity
from nnk.kernels.cuda._numba import SIMULATED
from nnk.kernels.ops import OPS


def holds_float32_alone(op):
    """Optimisers keep weights and moments in float32, whatever the activations are."""
    return any("params" in names for names in op.mutates.values())


def agrees(op, case, dtype, kernels):
    with np.errstate(all="ignore"):
        excess = parity.compare(op.suite, case, kernels, dtype)
    assert max(excess.values()) <= 1, f"error over tolerance: {excess}"


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
@pytest.mark.parametrize("op", [op for op in OPS if not holds_float32_alone(op)], ids=lambda op: f"cuda-{op.name}")
def test_cuda_storage_of_16_bits(op, name, cuda_kernels):
    dtype = pytest.importorskip("ml_dtypes").bfloat16 if name == "bfloat16" else name
    agrees(op, op.suite.cases[0], np.dtype(dtype), cuda_kernels)


@pytest.mark.skipif(not SIMULATED, reason="a GPU runs threads in its own order")
@pytest.mark.parametrize("op", OPS, ids=lambda op: f"cuda-{op.name}")
def test_cuda_threads_from_last_to_first(op, cuda_kernels, monkeypatch):
    import cuda_simulator

    monkeypatch.setattr(cuda_simulator.order, "backward", True)
    agrees(op, op.suite.cases[0], np.dtype(np.float32), cuda_kernels)
