"""A network of CUDA kernels alone, in Numba's simulator, beside itself on the CPU."""

import copy
import importlib.util
from pathlib import Path

import numpy as np
import pytest

import nnk
from nnk import backend, nn, optim


@pytest.fixture(autouse=True)
def strict():
    nnk.set_precision("highest")
    yield
    nnk.set_precision("high")


def network():
    nnk.manual_seed(4)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Residual(nn.Sequential(nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4))),
        nn.ReLU(),
        nn.Dropout(0.25),
        nn.Flatten(),
        nn.Linear(36, 3),
    )


def train(make):
    rng = np.random.default_rng(0)
    images, labels = rng.standard_normal((4, 1, 6, 6)).astype(np.float32), rng.integers(0, 3, 4)
    model, criterion = network(), nn.CrossEntropyLoss(label_smoothing=0.1)
    optimizer, losses = make(model.parameters()), []
    for _ in range(3):
        optimizer.zero_grad()
        losses.append(float(criterion(model(images), labels)))
        model.backward(criterion.backward(), input_grad=False)
        optimizer.step(clip_norm=0.5)
    model.eval()
    with nnk.no_grad():
        return losses, model(images), model.state_dict()


MAKE = {
    "SGD": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-3),
    "Adam": lambda p: optim.Adam(p, lr=0.01),
}


@pytest.mark.parametrize("name", MAKE)
def test_cuda_trains_as_the_cpu_does(simulator, name):
    losses, outputs, state = train(MAKE[name])
    with nnk.use_backend("cuda"):
        assert backend.of(outputs).__name__ == "nnk.kernels.cuda"
        simulated = train(MAKE[name])
    np.testing.assert_allclose(simulated[0], losses, rtol=1e-4)
    np.testing.assert_allclose(simulated[1], outputs, rtol=1e-4, atol=1e-4)
    for key, value in state.items():
        np.testing.assert_allclose(simulated[2][key], value, rtol=1e-4, atol=1e-4, err_msg=key)


def test_cuda_numbers_reach_their_slots(simulator):
    slots = np.full(24, -1, np.int64)
    backend.kernels("cuda._slots").write(slots, [2**40, -(2**40), *range(2, 11)])
    np.testing.assert_array_equal(slots, [2**40, -(2**40), *range(2, 11), *[0] * 5, *[-1] * 8])


def test_cuda_layouts_are_helped_by_its_own_helpers(simulator):
    x = np.arange(24, dtype=np.float16).reshape(1, 2, 3, 4)
    with nnk.use_backend("cuda"):
        joined = backend.concatenate([x, x + 1], 1)
        assert joined.dtype == np.float16
        assert joined.transpose(0, 2, 3, 1).flags.c_contiguous
        np.testing.assert_array_equal(joined, np.concatenate([x, x + 1], 1))
        np.testing.assert_array_equal(backend.contiguous(joined), joined)


def modules():
    """The modules and shapes that are tested on the CPU."""
    path = Path(__file__).parent.parent / "nn" / "test_on_cpu.py"
    spec = importlib.util.spec_from_file_location("on_cpu", path)
    on_cpu = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(on_cpu)
    return on_cpu.MODULES


@pytest.mark.parametrize(("module", "shape"), modules(), ids=lambda value: f"cuda {value!r}".partition("\n")[0])
def test_cuda_modules_are_those_of_the_cpu(simulator, module, shape):
    rng = np.random.default_rng(0)
    x = np.asarray(rng.standard_normal(shape), np.float32)
    twin, dy = copy.deepcopy(module), None
    results = []
    for name, made in (("cpu", copy.deepcopy(module)), ("cuda", twin)):
        nnk.manual_seed(0)
        with nnk.use_backend(name):
            y = made(x)
            dy = np.asarray(rng.standard_normal(np.shape(y)), np.float32) if dy is None else dy
            dx = made.backward(dy)
        results.append([y, dx, *(p.grad for p in made.parameters()), *made.buffers()])
    for ours, theirs in zip(*results):
        np.testing.assert_allclose(theirs, ours, rtol=2e-4, atol=2e-5)
