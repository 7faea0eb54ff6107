"""All that lies above the kernels, on arrays that NumPy cannot read: a stand-in for CuPy with the CPU's kernels."""

import copy
import pickle

import numpy as np
import pytest

import nnk
from nnk import backend, nn, optim
from nnk.train import Trainer


def network(**options):
    nnk.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Residual(nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8))),
        nn.ReLU(),
        nn.Concat(nn.Conv2d(8, 4, 1), nn.AvgPool2d(3, 1, 1)),
        nn.Dropout(0.25),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(48, 4),
    )


def host(x):
    return backend.asarray_on(x, "cpu")


def states(model):
    return {name: host(array) for name, array in model.state_dict().items()}


def test_a_state_goes_there_and_back(cupy):
    model = network()
    before = {name: array.copy() for name, array in model.state_dict().items()}
    assert model.to("cuda") is model
    assert all(type(array) is cupy.ndarray for array in model.state_dict().values())
    assert model.to("cuda").cpu() is model
    for name, array in model.state_dict().items():
        assert type(array) is np.ndarray
        np.testing.assert_array_equal(array, before[name])


def test_memory_order_is_kept(cupy):
    image = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4).transpose(0, 3, 1, 2)
    there = backend.asarray_on(image, "cuda")
    back = backend.asarray_on(there, "cpu")
    assert there.strides == back.strides == image.strides
    np.testing.assert_array_equal(back, image)
    np.testing.assert_array_equal(backend.asarray_on(backend.asarray_on(image[:, ::2], "cuda"), "cpu"), image[:, ::2])


def test_saved_as_numpy_loaded_to_the_device(cupy, tmp_path):
    model = network().to("cuda")
    nnk.save(model.state_dict(), tmp_path / "model.safetensors")
    loaded = nnk.load(tmp_path / "model.safetensors")
    other = network().to("cuda")
    for parameter in other.parameters():
        parameter.data *= 0
    other.load_state_dict(loaded)
    for name, array in other.state_dict().items():
        assert type(array) is cupy.ndarray
        np.testing.assert_array_equal(host(array), loaded[name])
    network().load_state_dict(model.state_dict())  # from there to a model on the CPU


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_stay_on_the_device(cupy, duplicate):
    model = network().to("cuda")
    twin = duplicate(model)
    for ours, theirs in zip(model.parameters(), twin.parameters()):
        assert type(theirs.data) is cupy.ndarray
        assert not np.shares_memory(ours.data.host, theirs.data.host)
        np.testing.assert_array_equal(host(ours.data), host(theirs.data))


def test_model_and_input_on_different_devices_raise(cupy):
    x = np.ones((2, 1, 8, 8), np.float32)
    with pytest.raises(TypeError, match=r"input is on 'cpu'.*beside it is on 'cuda'"):
        network().to("cuda")(x)
    with pytest.raises(TypeError, match=r"input is on 'cuda'.*beside it is on 'cpu'"):
        network()(backend.asarray_on(x, "cuda"))
    with nnk.use_backend("cpu"), pytest.raises(TypeError, match="the input is on 'cuda', but"):
        nn.ReLU()(backend.asarray_on(x, "cuda"))


def test_halves_are_taken_by_cuda_alone(cupy):
    backend.of(cupy.asarray(np.ones(3, np.float16)))
    with pytest.raises(TypeError, match="float32, float16 or bfloat16 on the 'cuda'"):
        backend.of(cupy.asarray(np.ones(3)))


OPTIMISERS = [
    lambda p: optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True),
    lambda p: optim.Adam(p, lr=0.01, amsgrad=True),
    lambda p: optim.AdamW(p, lr=0.01),
    lambda p: optim.Adagrad(p, lr=0.05),
    lambda p: optim.Adadelta(p),
    lambda p: optim.RMSprop(p, lr=0.01, momentum=0.5, centered=True),
]
NAMES = ["SGD", "Adam", "AdamW", "Adagrad", "Adadelta", "RMSprop"]


@pytest.mark.parametrize("make", OPTIMISERS, ids=NAMES)
def test_steps_are_those_of_the_cpu_and_nobody_waits(cupy, make):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((6, 1, 8, 8)).astype(np.float32), rng.integers(0, 4, 6)
    ends = []
    for device in ("cpu", "cuda"):
        model, criterion = network().to(device), nn.CrossEntropyLoss(label_smoothing=0.1)
        optimizer = make(model.parameters())
        here = [backend.asarray_on(array, device) for array in (x, y)]
        cupy.State.syncs = 0
        for _ in range(3):
            optimizer.zero_grad()
            criterion(model(here[0]), here[1])
            model.backward(criterion.backward(), input_grad=False)
            optimizer.step(clip_norm=0.5)
        assert cupy.State.syncs == 0
        saved = copy.deepcopy(optimizer.state_dict())
        optimizer.load_state_dict(saved)
        ends.append(states(model))
    for name in ends[0]:
        np.testing.assert_allclose(ends[1][name], ends[0][name], rtol=1e-4, atol=1e-6, err_msg=name)


LOSSES = [
    (nn.NLLLoss(np.ones(3, np.float32)), "labels"),
    (nn.CrossEntropyLoss(), "probabilities"),
    (nn.MSELoss(), "numbers"),
    (nn.HuberLoss(reduction="sum"), "numbers"),
    (nn.BCEWithLogitsLoss(), "probabilities"),
    (nn.BCELoss(), "both"),
    (nn.BernoulliNLLLoss(), "both"),
    (nn.KLDivLoss(), "probabilities"),
    (nn.FocalLoss(), "labels"),
    (nn.FocalLoss(), "bits"),
]


@pytest.mark.parametrize(("criterion", "kind"), LOSSES, ids=lambda value: type(value).__name__)
def test_losses_wait_for_nothing(cupy, criterion, kind):
    rng = np.random.default_rng(0)
    targets = {
        "labels": rng.integers(0, 3, 5),
        "numbers": rng.standard_normal((5, 3)).astype(np.float32),
        "bits": rng.integers(0, 2, (5, 3)),
    }
    target = targets.get(kind, rng.dirichlet(np.ones(3), 5).astype(np.float32))
    x = rng.uniform(0.1, 0.9, (5, 3)).astype(np.float32)
    want, gradient = criterion(x, target), criterion.backward()
    criterion = copy.deepcopy(criterion).to("cuda")
    x, target = (backend.asarray_on(array, "cuda") for array in (x, target))
    loss = criterion(x, target)
    dx = criterion.backward()
    assert cupy.State.syncs == 0
    assert type(loss) is type(dx) is cupy.ndarray
    np.testing.assert_array_equal(loss.get(), want)
    np.testing.assert_array_equal(dx.get(), gradient)


@pytest.mark.parametrize("criterion", [nn.CrossEntropyLoss(), nn.NLLLoss(), nn.FocalLoss()], ids=repr)
@pytest.mark.parametrize("label", [-1, 3, 2**40])
def test_a_label_that_names_no_class_makes_the_loss_nan(cupy, criterion, label):
    x = backend.asarray_on(np.full((4, 3), 0.3, np.float32), "cuda")
    for labels, wrong in (([0, 2, label, 1], [False, False, True, False]), ([0, 2, 1, 1], [False] * 4)):
        labels = backend.asarray_on(np.array(labels), "cuda")
        assert np.isnan(criterion(x, labels).get()) == any(wrong)
        each = copy.deepcopy(criterion)
        each.reduction = "none"
        loss = each(x, labels)
        assert loss.dtype == np.float32
        assert np.isnan(loss.get()).tolist() == wrong


def test_clipping_waits_for_nothing(cupy):
    norms = []
    for device in ("cpu", "cuda"):
        parameters = [nn.Parameter(backend.asarray_on(np.ones(3, np.float32), device)) for _ in range(2)]
        for parameter in parameters:
            parameter.grad = backend.asarray_on(np.arange(3, dtype=np.float32), device)
        cupy.State.syncs = 0
        norm = nn.utils.clip_grad_norm_(parameters, 1.0)
        nn.utils.clip_grad_value_(parameters, 0.3)
        assert cupy.State.syncs == 0
        norms.append([host(norm), *(host(parameter.grad) for parameter in parameters)])
    for ours, theirs in zip(*norms):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_looking_into_a_model(cupy):
    model = network().to("cuda")
    x = backend.asarray_on(np.ones((2, 1, 8, 8), np.float32), "cuda")
    assert model.summary(x) == network().summary(host(x))
    assert nn.first_nonfinite(model, x) is None
    assert nn.first_nonfinite(model, x * float("nan"))[0] == "0"
    _, places = nn.MaxPool2d(2, return_indices=True)(x)
    np.testing.assert_array_equal(places.get(), nn.MaxPool2d(2, return_indices=True)(host(x))[1])
    model.eval()
    with nnk.no_grad():
        np.testing.assert_allclose(nn.fold_batchnorm(model)(x).get(), model(x).get(), rtol=1e-4, atol=1e-5)
    nn.init.lsuv_(model, x)


def test_gradients_are_checked_on_the_reference(cupy):
    model = nn.Sequential(nn.Linear(3, 2), nn.Tanh()).to("cuda")
    x = backend.asarray_on(np.ones((4, 3), np.float32), "cuda")
    assert nnk.testing.gradcheck(model, x)
    model[1].backward = lambda dy, input_grad=True: dy
    with pytest.raises(AssertionError, match=r"Sequential\.backward is wrong"):
        nnk.testing.gradcheck(model, x)
    assert type(model[0].weight.data) is cupy.ndarray


def test_layers_are_made_where_they_are_to_be(cupy):
    for layer in (nn.Linear(2, 3, device="cuda"), nn.BatchNorm2d(3, device="cuda"), nn.PReLU(device="cuda")):
        assert all(type(parameter.data) is cupy.ndarray for parameter in layer.parameters())
    nnk.manual_seed(0)
    there = nn.Conv2d(2, 3, 3, device="cuda")
    nnk.manual_seed(0)
    np.testing.assert_array_equal(host(there.weight.data), nn.Conv2d(2, 3, 3).weight.data)


def test_a_gradient_may_be_a_number(cupy):
    criterion = nn.MSELoss()
    x = backend.asarray_on(np.arange(3, dtype=np.float32), "cuda")
    criterion(x, x * 0)
    np.testing.assert_allclose(criterion.backward(2.0).get(), [0, 4 / 3, 8 / 3], rtol=1e-6)


def test_there_is_nothing_to_wait_for_or_to_free_but_cupys(cupy):
    nnk.cuda.synchronize()
    nnk.empty_cache()
    assert cupy.State.log == ["synchronize", "free", "free"]


def test_trainers_say_what_is_no_pair(cupy):
    with pytest.raises(TypeError, match="expected a pair"):
        Trainer(network().to("cuda")).fit([np.ones(3)])
