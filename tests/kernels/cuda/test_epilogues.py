"""What products of matrices do to their sums before they are written: residuals, on every tile and type."""

import numpy as np
import pytest

from nnk.kernels import reference
from nnk.kernels.cuda import _implicit_gemm, _mma_gemm
from nnk.kernels.cuda._layout import channels_last
from nnk.kernels.cuda._numba import SIMULATED
from nnk.kernels.cuda._operands import images, weight_rows
from nnk.kernels.cuda._pack import pack
from nnk.kernels.cuda._window import forward_axis
from nnk.kernels.shapes import conv_output_size

ml_dtypes = pytest.importorskip("ml_dtypes")
pytestmark = pytest.mark.skipif(not SIMULATED, reason="whole operations prove these on a GPU")
DTYPES = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
UNITS = {"float32": 2.0**-22, "float16": 2.0**-11, "bfloat16": 2.0**-8}


def convolve(rung, dtype, tile, x, weight, epilogue, groups=1, stride=1, padding=0, dilation=1, **options):
    """y on a rung, and in float64."""
    pairs = dict(stride=(stride, 1), padding=(padding, 0), dilation=(dilation, 1))
    taps, dtype = weight.shape[2:], DTYPES[dtype]
    size = tuple(map(conv_output_size, x.shape[2:], taps, *pairs.values()))
    window = tuple(map(forward_axis, size, taps, *pairs.values()))
    y = channels_last(np.full((len(x), len(weight), *size), np.nan).astype(dtype))
    scale, bias, rectify, residual = epilogue
    residual = residual if residual is None else channels_last(residual.astype(dtype))
    given, epilogue = channels_last(x.astype(dtype)), (scale, bias, rectify, residual)
    if rung == "ffma":
        matrix = pack(weight.astype(dtype), groups, window, False)
        _implicit_gemm.convolve(given, matrix, y, groups, window, *epilogue, tile=tile, **options)
    else:
        rows = weight_rows(weight.astype(dtype), groups, window, False, dtype)
        held = images(given, groups, dtype)
        _mma_gemm.convolve(held, rows, y, groups, window, *epilogue, tile=tile, **options)
    x, weight = (seen(a.astype(dtype), rung) for a in (x, weight))
    want = reference.conv2d(x, weight, None if bias is None else bias.astype(np.float64), groups=groups, scale=scale,
                            **pairs)
    if residual is not None:
        want = want + residual.astype(np.float64)
    return y, np.maximum(want, 0) if rectify else want


def seen(factor, rung):
    """What the rung multiplies: float32 as TF32 on tensor cores."""
    if rung == "mma" and factor.dtype == np.float32:
        factor = ((factor.view(np.uint32) + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)
    return factor.astype(np.float64)


def check(y, want, dtype):
    assert y.dtype == DTYPES[dtype]
    np.testing.assert_allclose(y.astype(np.float64), want, rtol=UNITS[dtype], atol=2.0**-20 * np.abs(want).max())


@pytest.mark.parametrize(("rung", "dtype", "tile"), [
    ("ffma", "float32", (128, 128)), ("ffma", "float32", (64, 64)), ("ffma", "bfloat16", (64, 64)),
    ("mma", "float32", (64, 64, 4)), ("mma", "float16", (64, 64, 2)), ("mma", "bfloat16", (64, 64, 4)),
])  # fmt: skip
@pytest.mark.parametrize("filters", [16, 7])
def test_cuda_a_residual_is_added_before_the_activation(rung, dtype, tile, filters):
    tile = (64, 64) if rung == "ffma" and filters == 7 else tile
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((2, 8, 4, 5)), rng.standard_normal((filters, 8, 1, 1))
    scale, bias = rng.standard_normal((2, filters)).astype(np.float32)
    residual = rng.standard_normal((2, filters, 4, 5))
    check(*convolve(rung, dtype, tile, x, weight, (scale, bias, True, residual)), dtype)
