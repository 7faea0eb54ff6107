import numpy as np
import pytest

import nnk
from nnk import nn


@pytest.mark.parametrize("shape", [(4, 3), (3,), (2, 5, 3), (2, 1, 5, 3), (0, 3), (4, 0, 3)])
@pytest.mark.parametrize("bias", [True, False])
def test_as_in_torch(same_as_torch, rng, shape, bias):
    same_as_torch("Linear", (3, 2), {"bias": bias}, rng.standard_normal(shape))


def test_gradcheck(rng):
    assert nnk.testing.gradcheck(nn.Linear(4, 3), rng.standard_normal((2, 5, 4)))


@pytest.mark.parametrize("shape", [(2, 4), (), (3, 1)])
def test_wrong_features(reference, shape):
    with pytest.raises(ValueError, match=r"Linear: the input has shape .*, expected \(..., 3\)"):
        nn.Linear(3, 2).double()(np.zeros(shape))


def test_bad_arguments():
    with pytest.raises(ValueError, match="in_features is -1"):
        nn.Linear(-1, 2)
    with pytest.raises(TypeError, match=r"out_features is 2\.0"):
        nn.Linear(1, 2.0)
