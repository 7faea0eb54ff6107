"""The reference works in the dtype that comes in."""

import numpy as np
import pytest

from nnk.kernels import parity, reference
from nnk.kernels.ops import OPS


@pytest.mark.filterwarnings("ignore:divide by zero")  # float16 has no 1e-8 for Adam's ε
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble])
@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_results_have_the_dtype_of_the_inputs(op, dtype):
    results = op.suite.run(reference, **parity.make_inputs(op.suite.cases[0], dtype))
    for name, result in results.items():
        assert isinstance(result, np.ndarray), name
        assert result.dtype == (np.uint8 if name == "indices" else dtype), name
