"""One Parameter in two modules: weights are tied, gradients sum, optimisers and state_dict treat it as PyTorch does."""

import numpy as np
import pytest

import nnk
from nnk import nn, optim

pytestmark = pytest.mark.usefixtures("reference")


def tied(library):
    """An autoencoder-like network whose two square layers share a weight."""
    model = library.Sequential(library.Linear(4, 4), library.Tanh(), library.Linear(4, 4)).double()
    model[2].weight = model[0].weight
    return model


def test_gradients_sum(rng):
    x, model, dy = rng.standard_normal((3, 4)), tied(nn), rng.standard_normal((3, 4))
    alone = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4)).double()
    alone.load_state_dict(model.state_dict())
    np.testing.assert_array_equal(model(x), alone(x))
    np.testing.assert_allclose(model.backward(dy), alone.backward(dy), rtol=1e-12)
    np.testing.assert_allclose(model[0].weight.grad, alone[0].weight.grad + alone[2].weight.grad, rtol=1e-12)
    assert nnk.testing.gradcheck(model, x)


def test_parameters_come_once_and_state_dict_has_both_keys():
    model = tied(nn)
    assert [name for name, _ in model.named_parameters()] == ["0.weight", "0.bias", "2.bias"]
    state = model.state_dict()
    assert list(state) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert np.shares_memory(state["0.weight"], state["2.weight"])


@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_trains_as_in_torch(rng, name):
    torch = pytest.importorskip("torch")
    ours, theirs = tied(nn), tied(torch.nn)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert [key for key, _ in ours.named_parameters()] == [key for key, _ in theirs.named_parameters()]
    ours.load_state_dict(theirs.state_dict())
    options = {"lr": 0.1, "weight_decay": 0.01}
    mine = getattr(optim, name)(ours.parameters(), **options)
    its = getattr(torch.optim, name)(theirs.parameters(), **options)
    for _ in range(3):
        x, dy = rng.standard_normal((3, 4)), rng.standard_normal((3, 4))
        mine.zero_grad()
        its.zero_grad()
        ours(x)
        ours.backward(dy)
        theirs(torch.tensor(x)).backward(torch.tensor(dy))
        mine.step()
        its.step()
    for key, value in theirs.state_dict().items():
        np.testing.assert_allclose(ours.state_dict()[key], value.numpy(), rtol=1e-9, err_msg=key)
    assert ours[0].weight is ours[2].weight
