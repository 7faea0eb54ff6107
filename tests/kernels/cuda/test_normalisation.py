"""CUDA kernels of normalisation where work is cut: several strips, several groups of columns, long rows."""

import sys

import numpy as np
import pytest

from nnk.kernels import parity
from nnk.kernels.cases import batchnorm, batchnorm_relu, groupnorm, layernorm, scale_channels
from nnk.kernels.cases._suite import normal
from nnk.kernels.cuda._numba import SIMULATED
from nnk.kernels.cuda._rows import SUMS, fold

STRIPS, GROUPS, SAMPLES, ODD_SAMPLES = (8, 64, 8, 8), (2, 301, 3, 5), (2, 32, 16, 16), (2, 9, 19, 17)


def test_cuda_work_is_cut(cuda_kernels):
    """The shapes below do cut it, whatever the device."""
    assert fold(np.empty(STRIPS, np.float32), SUMS).grid[2] > 1
    assert fold(np.empty(GROUPS, np.float32), SUMS).grid[1] > 1
    assert fold(np.empty(SAMPLES, np.float32), SUMS, 2).grid[2] > 1


@pytest.mark.parametrize(("dtype", "backward"), [(np.float32, True), (np.float16, False)], ids=["float32", "float16"])
@pytest.mark.parametrize(
    ("suite", "case"),
    [
        (batchnorm.batch_norm_train, batchnorm._case("strips", STRIPS)),
        (batchnorm.batch_norm_train, batchnorm._case("groups", GROUPS)),
        (batchnorm_relu.batch_norm_relu, batchnorm_relu.case("groups", GROUPS, residuals=normal)),
        (groupnorm.group_norm, groupnorm._case("strips", SAMPLES, 8)),
        (groupnorm.group_norm, groupnorm._case("odd", ODD_SAMPLES, 3)),
        (scale_channels.scale_channels, scale_channels._case("strips", SAMPLES)),
        (layernorm.layer_norm, layernorm._case("many_rows", (300, 20))),
        (layernorm.layer_norm, layernorm._case("long_rows", (2, 8400))),
    ],
    ids=["strips", "groups", "groups_relu", "samples", "odd_samples", "scaled_samples", "many_rows", "long_rows"],
)
def test_cuda_agrees_with_the_reference(suite, case, dtype, backward, cuda_kernels, monkeypatch):
    if SIMULATED and backward:
        monkeypatch.setattr(sys.modules["cuda_simulator"].order, "backward", True)
    with np.errstate(all="ignore"):
        excess = parity.compare(suite, case, cuda_kernels, dtype)
    assert max(excess.values()) <= 1, f"error over tolerance: {excess}"
