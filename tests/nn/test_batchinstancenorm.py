import numpy as np
import pytest

import nnk
from nnk import nn, optim

OPTIONS = [
    {},
    {"momentum": None, "eps": 1e-2},
    {"affine": False},
    {"bias": False},
    {"track_running_stats": False},
]


def drawn(rng, **options):
    norm = nn.BatchInstanceNorm2d(3, **options).double()
    for parameter in norm.parameters():
        parameter.data[...] = rng.standard_normal(3)
    norm.gate.data[...] = [0, 0.3, 1]
    return norm


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_as_composed_in_torch(reference, rng, options, mode):
    torch = pytest.importorskip("torch")
    norm = drawn(rng, **options).train(mode)
    theirs = torch.nn.BatchNorm2d(3, **(options | {"affine": False, "bias": True})).double().train(mode)
    leaves = {name: torch.tensor(p.data, requires_grad=True) for name, p in norm.named_parameters()}
    column = {name: leaf[:, None, None] for name, leaf in leaves.items()}
    for _ in range(3):
        x = rng.standard_normal((4, 3, 5, 6)) * 2 + 1
        dy = rng.standard_normal(x.shape)
        leaf = torch.tensor(x, requires_grad=True)
        of_instances = torch.nn.functional.instance_norm(leaf, eps=norm.eps)
        expected = column["gate"] * theirs(leaf) + (1 - column["gate"]) * of_instances
        expected = expected * column.get("weight", 1) + column.get("bias", 0)
        expected.backward(torch.tensor(dy))
        np.testing.assert_allclose(norm(x), expected.detach().numpy(), rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(norm.backward(dy), leaf.grad.numpy(), rtol=1e-9, atol=1e-12)
    for name, parameter in norm.named_parameters():
        np.testing.assert_allclose(parameter.grad, leaves[name].grad.numpy(), rtol=1e-9, atol=1e-11, err_msg=name)
    for name, buffer in norm.named_buffers():
        np.testing.assert_allclose(buffer, getattr(theirs, name).numpy(), rtol=1e-12, err_msg=name)


@pytest.mark.parametrize("mode", [True, False])
def test_gradcheck(rng, mode):
    assert nnk.testing.gradcheck(drawn(rng).train(mode), rng.standard_normal((3, 3, 3, 2)))


@pytest.mark.parametrize("mode", [True, False])
def test_the_ends_of_the_gate_are_batch_and_instance_norm(reference, rng, mode):
    x = rng.standard_normal((4, 3, 5, 6))
    norm = nn.BatchInstanceNorm2d(3).double().train(mode)
    np.testing.assert_allclose(norm(x), nn.BatchNorm2d(3).double().train(mode)(x), rtol=1e-12)
    norm.gate.data[...] = 0
    np.testing.assert_allclose(norm(x), nn.InstanceNorm2d(3).double()(x), rtol=1e-12)


def test_updates_keep_the_gate_between_0_and_1(rng):
    norm = nn.BatchInstanceNorm2d(3)
    norm.gate.data[...] = [0.01, 0.5, 0.99]
    optimizer = optim.SGD(norm.parameters(), lr=1.0)
    norm.gate.grad = np.array([1, 0.25, -1], np.float32)
    optimizer.step()
    np.testing.assert_array_equal(norm.gate.data, np.array([0, 0.25, 1], np.float32))
    # From the bound its gradient leads back inside.
    norm.gate.grad = np.array([-0.5, 0, 0.5], np.float32)
    optimizer.step()
    np.testing.assert_array_equal(norm.gate.data, np.array([0.5, 0.25, 0.5], np.float32))


def test_state_dict(rng):
    keys = ["weight", "bias", "gate", "running_mean", "running_var", "num_batches_tracked"]
    assert list(nn.BatchInstanceNorm2d(3).state_dict()) == keys
    assert list(nn.BatchInstanceNorm2d(3, affine=False, track_running_stats=False).state_dict()) == ["gate"]


def test_no_relu_is_left_to_it(rng):
    """It inherits from batch norm, whose place in fused containers it cannot take."""
    norm = nn.BatchInstanceNorm2d(3)
    x = rng.standard_normal((2, 3, 4, 4)).astype(np.float32)
    y = nn.Sequential(norm, nn.ReLU())(x)
    np.testing.assert_allclose(y, np.maximum(norm(x), 0), rtol=1e-6)
    assert (y == 0).any()


def test_wrong_inputs(reference):
    norm = nn.BatchInstanceNorm2d(3).double()
    with pytest.raises(ValueError, match=r"BatchInstanceNorm2d: .*, expected \(N, 3, H, W\)"):
        norm(np.zeros((2, 4, 3, 3)))
    with pytest.raises(ValueError, match="one value per channel"):
        norm.eval()(np.zeros((2, 3, 1, 1)))
    assert norm.num_batches_tracked == 0
