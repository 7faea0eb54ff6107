"""CUDA kernels of normalisation where work is cut: several strips, several groups of columns, long rows."""

import sys

import numpy as np
import pytest

from nnk.kernels import parity, reference
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


def statistics(x, pixels):
    """What a convolution leaves of its output: counts, means and squares of every so many pixels."""
    flat = np.moveaxis(x, 1, -1).reshape(-1, x.shape[1]).astype(np.float64)
    lots = np.split(flat, range(pixels, len(flat), pixels))
    counts = [np.full(x.shape[1], len(lot)) for lot in lots]
    squares = [((lot - lot.mean(axis=0)) ** 2).sum(axis=0) for lot in lots]
    return tuple(np.array(a, np.float32) for a in (counts, [lot.mean(axis=0) for lot in lots], squares))


@pytest.mark.parametrize(("shape", "pixels"), [((3, 9, 5, 7), 64), ((5, 3, 12, 11), 1)], ids=["few_lots", "many_lots"])
@pytest.mark.parametrize("level", [1.0, 1e3])
def test_cuda_batch_norm_by_statistics_of_a_convolution(shape, pixels, level, cuda_kernels):
    """x is not read for them: they are those of other values here, whose results must come out."""
    rng = np.random.default_rng(0)
    x = (level + 1e-2 * level * rng.standard_normal(shape)).astype(np.float32)
    given, want = statistics(2 * x, pixels), reference.batch_norm_train(
        2 * x.astype(np.float64), None, None, None, None, momentum=0.0, eps=1e-5)
    running = np.zeros((2, shape[1]), np.float32)
    y, mean, invstd = cuda_kernels.batch_norm_train(
        2 * x, None, None, *running, momentum=1.0, eps=1e-5, statistics=given)
    apart = cuda_kernels.batch_norm_train(x, None, None, None, None, momentum=0.0, eps=1e-5, statistics=given)
    rectified = cuda_kernels.batch_norm_relu_train(
        2 * x, None, None, None, None, momentum=0.0, eps=1e-5, statistics=given)
    np.testing.assert_allclose(y, want[0], rtol=1e-5, atol=1e-4)
    np.testing.assert_array_equal(rectified[0], np.maximum(y, 0))
    np.testing.assert_allclose(mean, want[1], rtol=3e-7)
    np.testing.assert_allclose(invstd, want[2], rtol=1e-4)
    np.testing.assert_array_equal(running[0], mean)
    np.testing.assert_array_equal(apart[1], mean)
