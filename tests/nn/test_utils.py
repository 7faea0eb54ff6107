import inspect

import numpy as np
import pytest

import nnk
from nnk import nn
from nnk.nn import utils
from nnk.nn.utils import clip_grad_norm_, clip_grad_value_, clip_grads_with_norm_, get_total_norm

pytestmark = pytest.mark.usefixtures("reference")


def parameters(rng):
    made = [nn.Parameter(np.zeros(shape)) for shape in ((3, 4), (5,), (2,))]
    for parameter in made[:2]:
        parameter.grad = rng.standard_normal(parameter.shape) * 3
    return made


@pytest.mark.parametrize("norm_type", [2.0, 1.0, float("inf"), "inf", 3.0, -1.0, -float("inf"), 0.0])
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
    expected = torch.nn.utils.get_total_norm([p.grad for p in theirs[:2]], norm_type)
    np.testing.assert_allclose(get_total_norm([p.grad for p in ours[:2]], norm_type), expected, rtol=1e-12)


def test_with_a_norm_of_ones_own(rng):
    made = parameters(rng)
    before = made[0].grad
    kept = before.copy()
    clip_grads_with_norm_(made, 1.0, 4.0)
    np.testing.assert_allclose(made[0].grad, kept / (4 + 1e-6), rtol=1e-12)
    np.testing.assert_array_equal(before, kept)  # whoever holds the array that backward made sees no change
    clip_grads_with_norm_(made[1], 5.0, 4.0)
    assert get_total_norm([]) == 0
    assert get_total_norm(kept) == np.linalg.norm(kept)


@pytest.mark.parametrize("name", utils.__all__)
def test_arguments_are_torchs(name):
    torch = pytest.importorskip("torch")
    ours, theirs = (
        [(p.name, p.default, p.kind) for p in inspect.signature(getattr(o, name)).parameters.values()]
        for o in (utils, torch.nn.utils)
    )
    assert ours == theirs


def test_on_the_cpu_the_bits_do_not_depend_on_threads(rng):
    grads = [rng.standard_normal(shape).astype(np.float32) for shape in ((300, 1000), (5,), (70_001,))]
    threads = nnk.get_num_threads()
    with nnk.use_backend("cpu"):
        norms = []
        for n in (1, 2):
            nnk.set_num_threads(n)
            norms.append(get_total_norm(grads))
    nnk.set_num_threads(threads)
    assert norms[0] == norms[1]
    assert norms[0].dtype == np.float32
    exact = np.sqrt(sum((g.astype(float) ** 2).sum() for g in grads))
    np.testing.assert_allclose(norms[0], exact, rtol=1e-6)


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
    made[0].grad[0, 0] = np.nan
    clip_grad_value_(made, 0.0)
    assert np.isnan(made[0].grad[0, 0])
    assert not made[1].grad.any()
    with pytest.raises(ValueError, match=r"clip_value is -1\.0, expected at least 0"):
        clip_grad_value_(made, -1)


def test_foreach_takes_its_default_only(rng):
    with pytest.raises(ValueError, match="foreach=True"):
        clip_grad_norm_(parameters(rng), 1.0, foreach=True)


@pytest.mark.parametrize("clip", [clip_grad_norm_, clip_grad_value_])
def test_what_is_no_parameter(clip):
    with pytest.raises(TypeError, match=r"parameters is a Linear, expected parameters, as model.parameters\(\) gives"):
        clip(nn.Linear(2, 2), 1.0)
    with pytest.raises(TypeError, match=r"parameters holds a ndarray, expected nnk\.nn\.Parameter"):
        clip([np.ones(2)], 1.0)
