"""A folded network returns what the network returns, without its batch norms."""

import copy

import numpy as np
import pytest

import nnk
from nnk import models, nn

X = np.random.default_rng(0).standard_normal((4, 3, 6, 5))
seq = nn.Sequential


def conv(**options):
    return nn.Conv2d(3, 3, 3, padding=1, **options)


def settled(model, seed=0):
    """The model in eval mode, all parameters and statistics as after some training."""
    rng = np.random.default_rng(seed)
    for name, array in model.state_dict().items():
        if array.ndim == 1:
            array[...] = rng.uniform(0.5, 2, array.shape) if "var" in name else rng.normal(0.5, 0.3, array.shape)
    return model.eval()


def norms(model):
    return sum(isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)) for module in model.modules())


def unfused(model, x):
    with nnk.no_grad(), nn.watch(lambda module, output: None):
        return model(x)


@pytest.mark.parametrize("name", models.names())
def test_networks(name):
    shape = (1, 8, 8) if name == "digits_cnn" else (3, 32, 32)
    model = settled(models.create(name, shape, 10))
    x = np.random.default_rng(1).standard_normal((2, *shape)).astype(np.float32)
    expected = unfused(model, x)
    folded = nn.fold_batchnorm(model)
    assert norms(folded) == 0
    with nnk.no_grad():
        for ours in (folded, model):
            error = np.abs(ours(x) - expected).max() / np.abs(expected).max()
            assert error < 1e-5, (name, error)


@pytest.fixture
def reference():
    with nnk.use_backend("reference"):
        yield


def shared_weight():
    first, second = conv(), conv()
    second.weight = first.weight
    return seq(first, nn.BatchNorm2d(3), second, nn.BatchNorm2d(3))


def shared_layer():
    both = conv()
    return seq(both, nn.BatchNorm2d(3), both, nn.BatchNorm2d(3))


def shared_block():
    both = seq(conv(), nn.BatchNorm2d(3))
    return seq(both, nn.ReLU(), both)


def shared_relu():
    """Without its second ReLU a norm would seem to stand behind a convolution."""
    both = nn.ReLU()
    return seq(conv(), nn.BatchNorm2d(3), both, conv(), both, nn.BatchNorm2d(3))


def shared_norm():
    both = nn.BatchNorm2d(3)
    return seq(conv(), both, conv(), both, nn.ReLU(), both)


class Own(nn.Conv2d):
    def forward(self, x):
        return super().forward(x) + 1


class Loop(nn.Sequential):
    """Its modules in another order."""

    def forward(self, x):
        for module in reversed(list(self)):
            x = module(x)
        return x


LEFT = {
    "conv": (lambda: seq(conv(bias=False), nn.BatchNorm2d(3), nn.ReLU()), 0),
    "conv with a bias": (lambda: seq(conv(), nn.BatchNorm2d(3)), 0),
    "groups": (lambda: seq(conv(groups=3), nn.BatchNorm2d(3)), 0),
    "no affine": (lambda: seq(conv(), nn.BatchNorm2d(3, affine=False)), 0),
    "no bias": (lambda: seq(conv(bias=False), nn.BatchNorm2d(3, bias=False)), 0),
    "eps": (lambda: seq(conv(), nn.BatchNorm2d(3, eps=0.5)), 0),
    "two norms": (lambda: seq(conv(), nn.BatchNorm2d(3), nn.BatchNorm2d(3)), 0),
    "linear": (lambda: seq(nn.Flatten(), nn.Linear(90, 7), nn.BatchNorm1d(7), nn.Linear(7, 3, bias=False)), 0),
    "residual": (lambda: seq(nn.Residual(seq(conv(), nn.BatchNorm2d(3)), seq(conv(), nn.BatchNorm2d(3)))), 0),
    "branches": (lambda: nn.Concat(seq(conv(), nn.BatchNorm2d(3)), conv()), 0),
    "identity between": (lambda: seq(conv(), nn.Identity(), nn.BatchNorm2d(3)), 0),
    "shared block": (shared_block, 0),
    "shared relu": (shared_relu, 1),
    "shared norm": (shared_norm, 1),
    "shared layer": (shared_layer, 2),
    "shared weight": (shared_weight, 2),
    "norm first": (lambda: seq(nn.BatchNorm2d(3), conv()), 1),
    "something between": (lambda: seq(conv(), nn.ReLU(), nn.BatchNorm2d(3)), 1),
    "batch statistics": (lambda: seq(conv(), nn.BatchNorm2d(3, track_running_stats=False)), 1),
    "layer of its own kind": (lambda: seq(Own(3, 3, 1), nn.BatchNorm2d(3)), 1),
    "container of its own kind": (lambda: Loop(nn.BatchNorm2d(3), conv(), nn.BatchNorm2d(3)), 2),
}


@pytest.mark.parametrize(("build", "left"), LEFT.values(), ids=LEFT)
def test_what_is_folded(reference, build, left):
    model = settled(build().double())
    state = {key: array.copy() for key, array in model.state_dict().items()}
    expected = unfused(model, X)
    folded = nn.fold_batchnorm(model)
    assert norms(folded) == left
    for y in (unfused(folded, X), folded(X), unfused(nn.fold_batchnorm(folded), X), unfused(model, X)):
        np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-12)
    for key, array in model.state_dict().items():
        np.testing.assert_array_equal(array, state[key], err_msg=key)


def test_the_copy_is_complete():
    model = settled(seq(conv(bias=False), nn.BatchNorm2d(3), nn.ReLU()))
    model[0].requires_grad_(False)
    folded = nn.fold_batchnorm(model)
    assert repr(folded[1]) == "Identity()"
    assert not any(module.training for module in folded.modules())
    assert list(folded.state_dict()) == ["0.weight", "0.bias"]
    assert "bias=False" not in repr(folded)
    assert not any(parameter.requires_grad for parameter in folded.parameters())
    assert not any(np.may_share_memory(a.data, b.data) for a in model.parameters() for b in folded.parameters())
    x = X.astype(np.float32)
    np.testing.assert_array_equal(copy.deepcopy(folded)(x), folded(x))


def test_a_norm_in_training_mode():
    model = seq(nn.ReLU(), seq(conv(), nn.BatchNorm2d(3)))
    with pytest.raises(ValueError, match=r"BatchNorm2d '1\.1' is in training mode: call eval\(\) first"):
        nn.fold_batchnorm(model)
    assert norms(model) == 1
    with pytest.raises(ValueError, match=r"BatchNorm2d '1' is in training mode"):
        nn.fold_batchnorm(model[1])


def test_no_module():
    with pytest.raises(TypeError, match="model is a function, expected a Module"):
        nn.fold_batchnorm(conv)


def test_as_in_torch():
    torch = pytest.importorskip("torch")
    ours = settled(seq(conv(), nn.BatchNorm2d(3)))
    theirs = torch.nn.Sequential(torch.nn.Conv2d(3, 3, 3, padding=1), torch.nn.BatchNorm2d(3)).eval()
    theirs.load_state_dict({key: torch.from_numpy(array) for key, array in ours.state_dict().items()})
    fused, folded = torch.nn.utils.fuse_conv_bn_eval(*theirs), nn.fold_batchnorm(ours)[0]
    np.testing.assert_allclose(folded.weight.data, fused.weight.detach().numpy(), rtol=1e-6)
    np.testing.assert_allclose(folded.bias.data, fused.bias.detach().numpy(), rtol=1e-5, atol=1e-6)
