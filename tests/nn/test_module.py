import copy
import pickle

import numpy as np
import pytest

import nnk
from nnk import nn

KEYS = [
    "0.weight",
    "0.bias",
    "1.weight",
    "1.bias",
    "1.running_mean",
    "1.running_var",
    "1.num_batches_tracked",
    "2.body.0.weight",
    "2.shortcut.weight",
    "2.shortcut.bias",
]


def network():
    return nn.Sequential(
        nn.Conv2d(2, 3, 3),
        nn.BatchNorm2d(3),
        nn.Residual(nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.ReLU()), nn.Conv2d(3, 4, 1)),
    )


def test_state_dict_has_torchs_keys_and_live_arrays():
    model = network()
    state = model.state_dict()
    assert list(state) == KEYS
    assert state["1.num_batches_tracked"].shape == ()
    state["0.weight"][...] = 7
    assert (model[0].weight.data == 7).all()
    assert state["1.running_mean"] is model[1].running_mean


def torch_network():
    torch = pytest.importorskip("torch")

    class Residual(torch.nn.Module):
        def __init__(self, body, shortcut):
            super().__init__()
            self.body, self.shortcut = body, shortcut

        def forward(self, x):
            return self.body(x) + self.shortcut(x)

    return torch.nn.Sequential(
        torch.nn.Conv2d(2, 3, 3),
        torch.nn.BatchNorm2d(3),
        Residual(
            torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1, bias=False), torch.nn.ReLU()), torch.nn.Conv2d(3, 4, 1)
        ),
    ).double()


def test_weights_trained_in_torch_load_and_back(reference, rng):
    import_torch = pytest.importorskip("torch")
    theirs, ours = torch_network(), network().double()
    x = rng.standard_normal((4, 2, 6, 6))
    theirs(import_torch.from_numpy(x))  # moves the running statistics
    result = ours.load_state_dict(theirs.state_dict())
    assert result == ([], [])
    assert result.missing_keys == []
    expected = theirs.eval()(import_torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(ours.eval()(x), expected, rtol=1e-10)
    for key, value in theirs.state_dict().items():
        np.testing.assert_array_equal(ours.state_dict()[key], value.numpy(), err_msg=key)

    for parameter in ours.parameters():
        parameter.data += 1
    theirs.load_state_dict({key: import_torch.from_numpy(value) for key, value in ours.state_dict().items()})
    expected = theirs(import_torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(ours(x), expected, rtol=1e-10)


def test_load_copies_into_the_same_arrays():
    model = network()
    before = model[0].weight.data
    state = {key: np.full(value.shape, 2, np.float64) for key, value in model.state_dict().items()}
    state["1.num_batches_tracked"] = np.array(5, np.int32)
    model.load_state_dict(state)
    assert model[0].weight.data is before
    assert before.dtype == np.float32
    assert (before == 2).all()
    assert model[1].num_batches_tracked == 5


def test_all_misfits_are_listed_at_once_and_nothing_is_copied():
    model = network()
    state = {key: value + 1 for key, value in model.state_dict().items()}
    del state["0.bias"], state["2.body.0.weight"]
    state["head.weight"] = np.zeros(3)
    state["1.bias"] = np.zeros(4)
    state["1.running_mean"] = np.zeros((3, 1))
    state["1.num_batches_tracked"] = np.zeros(())
    before = model[0].weight.data.copy()
    with pytest.raises(ValueError, match="does not fit this Sequential") as caught:
        model.load_state_dict(state)
    for part in [
        "missing: 0.bias, 2.body.0.weight",
        "unexpected: head.weight",
        "1.bias: shape (4,), expected (3,)",
        "1.running_mean: shape (3, 1), expected (3,)",
        "1.num_batches_tracked: dtype float64, expected int64",
    ]:
        assert part in str(caught.value)
    np.testing.assert_array_equal(model[0].weight.data, before)


def test_not_strict_takes_what_fits():
    model = network()
    result = model.load_state_dict({"0.bias": np.ones(3), "other": np.ones(1)}, strict=False)
    assert result.unexpected_keys == ["other"]
    assert result.missing_keys == [key for key in KEYS if key != "0.bias"]
    np.testing.assert_array_equal(model[0].bias.data, np.ones(3))
    with pytest.raises(ValueError, match=r"0\.bias: shape"):
        model.load_state_dict({"0.bias": np.ones(4)}, strict=False)


@pytest.mark.parametrize("state", [[], None, "weights.safetensors"])
def test_load_what_is_no_mapping(state):
    with pytest.raises(TypeError, match="expected a mapping"):
        network().load_state_dict(state)


def test_load_what_is_no_array():
    with pytest.raises(ValueError, match=r"0.bias: cannot read a str as an array"):
        network().load_state_dict({"0.bias": "x"}, strict=False)


def test_iterators():
    model = network()
    assert [name for name, _ in model.named_children()] == ["0", "1", "2"]
    assert list(model.children()) == [model[0], model[1], model[2]]
    names = [name for name, _ in model.named_modules()]
    assert names == ["", "0", "1", "2", "2.body", "2.body.0", "2.body.1", "2.shortcut"]
    assert len(list(model.modules())) == len(names)
    assert [name for name, _ in model.named_parameters()] == [
        key for key in KEYS if not key.endswith(("mean", "var", "tracked"))
    ]
    assert [name for name, _ in model.named_parameters("net", recurse=False)] == []
    assert [name for name, _ in model[0].named_parameters("net")] == ["net.weight", "net.bias"]
    assert [name for name, _ in model.named_buffers()] == KEYS[4:7]
    assert len(list(model.buffers())) == 3


def test_shared_modules_and_parameters_come_once():
    relu = nn.ReLU()
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    second.weight = first.weight
    model = nn.Sequential(first, relu, second, relu)
    assert [name for name, _ in model.named_children()] == ["0", "1", "2"]
    assert [name for name, _ in model.named_parameters()] == ["0.weight", "0.bias", "2.bias"]
    assert len(list(model.named_parameters(remove_duplicate=False))) == 4
    assert len(list(model.named_modules(remove_duplicate=False))) == 5
    assert list(model.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    twin = copy.deepcopy(model)
    assert twin[0].weight is twin[2].weight
    assert twin[1] is twin[3]


def test_apply_train_eval_and_freezing():
    model = network()
    seen = []
    assert model.apply(seen.append) is model
    assert seen[-1] is model
    assert seen[0] is model[0]
    assert model.eval() is model
    assert not any(module.training for module in model.modules())
    assert model.train() is model
    assert all(module.training for module in model.modules())
    assert model.requires_grad_(False) is model
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_gradients_add_up_in_new_arrays_until_zero_grad(reference, rng):
    linear = nn.Linear(3, 2).double()
    x, dy = rng.standard_normal((4, 3)), rng.standard_normal((4, 2))
    linear(x)
    linear.backward(dy)
    once = linear.weight.grad
    kept = once.copy()
    linear(x)
    linear.backward(dy)
    np.testing.assert_array_equal(once, kept)
    np.testing.assert_allclose(linear.weight.grad, 2 * kept)
    linear(x)
    linear.zero_grad()  # may come between forward and backward
    assert linear.weight.grad is None
    linear.backward(dy)
    np.testing.assert_array_equal(linear.weight.grad, kept)


def test_buffers():
    module = nn.Module()
    module.register_buffer("a", np.zeros(2, np.float32))
    module.register_buffer("b", [1.0, 2.0], persistent=False)
    module.register_buffer("c", None)
    assert list(module.state_dict()) == ["a"]
    assert [name for name, _ in module.named_buffers()] == ["a", "b"]
    module.a = np.ones(2, np.float32)
    assert module.state_dict()["a"] is module.a
    del module.b
    assert [name for name, _ in module.named_buffers()] == ["a"]
    module.plain = 3
    with pytest.raises(KeyError, match="plain"):
        module.register_buffer("plain", np.zeros(1))


def test_an_array_does_not_replace_a_parameter():
    linear = nn.Linear(2, 2)
    with pytest.raises(TypeError, match=r"Linear.weight is a Parameter.*weight.data"):
        linear.weight = np.zeros((2, 2))
    linear.bias = None
    assert [name for name, _ in linear.named_parameters()] == ["weight"]


def test_dtypes():
    model = network()
    ids = [id(parameter) for parameter in model.parameters()]
    model[0].weight.grad = np.ones(model[0].weight.shape, np.float32)
    assert model.double() is model
    assert {value.dtype for value in model.state_dict().values()} == {np.dtype(np.float64), np.dtype(np.int64)}
    assert model[0].weight.grad.dtype == np.float64
    model.to("cpu", np.float32)
    assert model[1].running_mean.dtype == np.float32
    assert model.to("float64").float()[0].weight.dtype == np.float32
    assert [id(parameter) for parameter in model.parameters()] == ids
    assert nn.Linear(2, 2, dtype=np.float64).weight.dtype == np.float64
    with pytest.raises(TypeError, match="int64"):
        model.to(np.int64)
    with pytest.raises(TypeError, match="other than 'cpu' and 'cuda' is 'banana'"):
        model.to("banana")


def test_cuda_without_a_gpu():
    if nnk.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(RuntimeError, match="CUDA cannot be used"):
        network().to("cuda")
    with pytest.raises(RuntimeError, match="CUDA cannot be used"):
        nn.Linear(2, 2, device="cuda")


def test_pickle_and_copy_keep_weights_modes_and_order():
    model = network().eval()
    model.mark = "kept"
    for twin in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert repr(twin) == repr(model)
        assert twin.mark == "kept"
        assert not twin[2].training
        assert list(twin.state_dict()) == KEYS
        for key, value in model.state_dict().items():
            assert twin.state_dict()[key] is not value
            np.testing.assert_array_equal(twin.state_dict()[key], value)


def test_subclass_need_not_call_init():
    class Net(nn.Module):
        def __init__(self):
            self.a = nn.Linear(2, 2)

    net = Net()
    assert net.training
    assert list(net.state_dict()) == ["a.weight", "a.bias"]


def test_module_without_forward_or_backward():
    with pytest.raises(NotImplementedError, match="Module has no forward"):
        nn.Module()(1)
    with pytest.raises(NotImplementedError, match="ModuleList has no backward"):
        nn.ModuleList().backward(1)


def test_repr_is_torchs():
    torch = pytest.importorskip("torch")

    def build(nn):
        return nn.Sequential(
            nn.Conv2d(4, 2, 3, padding="same", groups=2, bias=False),
            nn.Conv2d(4, 2, (3, 2), stride=2, padding=1, dilation=2),
            nn.BatchNorm2d(3, momentum=None),
            nn.BatchNorm1d(3, affine=False),
            nn.Sequential(nn.ReLU(), nn.ReLU(inplace=True), nn.LeakyReLU(0.2), nn.Sigmoid(), nn.Tanh()),
            nn.Sequential(),
            nn.Dropout(0.3),
            nn.Flatten(),
            nn.GroupNorm(2, 4, affine=False),
            nn.LayerNorm([2, 3], bias=False),
            nn.InstanceNorm2d(3, track_running_stats=True),
            nn.Identity(),
            nn.Linear(2, 3, bias=False),
            nn.MaxPool2d(2, padding=1),
            nn.AvgPool2d((2, 3)),
            nn.AdaptiveAvgPool2d((None, 2)),
            nn.CrossEntropyLoss(),
        )

    assert repr(build(nn)) == repr(build(torch.nn))


def test_arguments_that_a_module_does_not_take():
    with pytest.raises(TypeError, match="positional argument"):
        nn.Sigmoid(3)
