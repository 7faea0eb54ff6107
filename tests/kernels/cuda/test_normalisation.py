"""CUDA kernels of normalisation where work is cut: several strips, several groups of columns, in both orders."""

import sys

import numpy as np
import pytest

from nnk.kernels import parity
from nnk.kernels.cases import batchnorm, batchnorm_relu, groupnorm, scale_channels
from nnk.kernels.cases._suite import normal
from nnk.kernels.cuda._numba import SIMULATED
from nnk.kernels.cuda._rows import SUMS, fold

STRIPS, GROUPS, SAMPLES, ODD_SAMPLES = (8, 64, 8, 8), (2, 301, 3, 5), (2, 32, 16, 16), (2, 9, 19, 17)


@pytest.fixture(params=["forward", "backward"] if SIMULATED else ["device"])
def order(request):
    """Threads one after the other, or the last one first."""
    if not SIMULATED:
        yield
        return
    sys.modules["cuda_simulator"].order.backward = request.param == "backward"
    yield
    sys.modules["cuda_simulator"].order.backward = False


def test_cuda_work_is_cut(cuda_kernels):
    """The shapes below do cut it, whatever the device."""
    assert fold(np.empty(STRIPS, np.float32), SUMS).grid[2] > 1
    assert fold(np.empty(GROUPS, np.float32), SUMS).grid[1] > 1
    assert fold(np.empty(SAMPLES, np.float32), SUMS, 2).grid[2] > 1


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize(
    ("suite", "case"),
    [
        (batchnorm.batch_norm_train, batchnorm._case("strips", STRIPS)),
        (batchnorm.batch_norm_train, batchnorm._case("groups", GROUPS)),
        (batchnorm_relu.batch_norm_relu, batchnorm_relu.case("groups", GROUPS, residuals=normal)),
        (groupnorm.group_norm, groupnorm._case("strips", SAMPLES, 8)),
        (groupnorm.group_norm, groupnorm._case("odd", ODD_SAMPLES, 3)),
        (scale_channels.scale_channels, scale_channels._case("strips", SAMPLES)),
    ],
    ids=["strips", "groups", "groups_relu", "samples", "odd_samples", "scaled_samples"],
)
def test_cuda_agrees_with_the_reference(suite, case, dtype, order, cuda_kernels):
    with np.errstate(all="ignore"):
        excess = parity.compare(suite, case, cuda_kernels, dtype)
    assert max(excess.values()) <= 1, f"error over tolerance: {excess}"
