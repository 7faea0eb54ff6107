import numpy as np
import pytest

from nnk import nn
from nnk.nn.utils import clip_grad_norm_, clip_grad_value_


def parameters(rng):
    made = [nn.Parameter(np.zeros(shape)) for shape in ((3, 4), (5,), (2,))]
    for parameter in made[:2]:
        parameter.grad = rng.standard_normal(parameter.shape) * 3
    return made


@pytest.mark.parametrize("norm_type", [2.0, 1.0, float("inf"), 3.0])
@pytest.mark.parametrize("max_norm", [0.5, 1e3])
def test_norm_as_in_torch(rng, norm_type, max_norm):
    torch = pytest.importorskip("torch")
    ours = parameters(rng)
    theirs = [torch.nn.Parameter(torch.zeros(p.shape, dtype=torch.float64)) for p in ours]
    for our, their in zip(ours[:2], theirs):
        their.grad = torch.tensor(our.grad)
    norm = clip_grad_norm_(ours, max_norm, norm_type)
    np.testing.assert_allclose(norm, torch.nn.utils.clip_grad_norm_(theirs, max_norm, norm_type), rtol=1e-12)
    for our, their in zip(ours[:2], theirs):
        np.testing.assert_allclose(our.grad, their.grad, rtol=1e-12)
    assert ours[2].grad is None


def test_norm_that_is_not_finite(rng):
    made = parameters(rng)
    made[0].grad[0, 0] = np.inf
    with pytest.raises(RuntimeError, match="norm of all gradients is inf"):
        clip_grad_norm_(made, 1.0, error_if_nonfinite=True)
    assert not np.isnan(made[1].grad).any()
    assert clip_grad_norm_(made, 1.0) == np.inf
    assert clip_grad_norm_([], 1.0) == 0


def test_value(rng):
    made = parameters(rng)
    expected = np.clip(made[0].grad, -0.5, 0.5)
    clip_grad_value_(made, 0.5)
    np.testing.assert_array_equal(made[0].grad, expected)
    clip_grad_value_(made[1], 0.1)
    assert np.abs(made[1].grad).max() <= 0.1


def test_foreach_takes_its_default_only(rng):
    with pytest.raises(ValueError, match="foreach=True"):
        clip_grad_norm_(parameters(rng), 1.0, foreach=True)
