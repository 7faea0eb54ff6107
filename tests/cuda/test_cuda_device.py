"""Training on a GPU, where there is one: as on the CPU, as a graph or not, on several streams and threads."""

import threading

import numpy as np
import pytest

import nnk
from nnk import backend, nn, optim
from nnk.train import Trainer

PROBLEM = backend.cuda_problem()
pytestmark = pytest.mark.skipif(PROBLEM is not None, reason=str(PROBLEM))


@pytest.fixture(autouse=True)
def strict():
    nnk.set_precision("highest")
    yield
    nnk.set_precision("high")


def network(dropout):
    nnk.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Residual(nn.Sequential(nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(64, 10),
    )


def batches(steps, size):
    """Noisy pictures of ten random patterns."""
    rng = np.random.default_rng(0)
    patterns = 2 * rng.standard_normal((10, 1, 8, 8))
    for _ in range(steps):
        labels = rng.integers(0, 10, size)
        yield (patterns[labels] + rng.standard_normal((size, 1, 8, 8))).astype(np.float32), labels


def losses(device, dropout):
    model, criterion, found = network(dropout).to(device), nn.CrossEntropyLoss(), []
    optimizer = optim.Adam(model.parameters(), lr=1e-3)
    for batch in batches(50, 64):
        x, labels = (backend.asarray_on(array, device) for array in batch)
        optimizer.zero_grad()
        found.append(float(criterion(model(x), labels)))
        model.backward(criterion.backward(), input_grad=False)
        optimizer.step()
    return found


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_fifty_steps_have_the_losses_of_the_cpu(dropout):
    here, there = losses("cpu", dropout), losses("cuda", dropout)
    assert here[-1] < here[0] / 2
    np.testing.assert_allclose(there, here, atol=1e-4, rtol=0)


def trained(graph, **options):
    model = network(0.3).to("cuda")
    trainer = Trainer(model, optimizer=optim.Adam(model.parameters(), lr=1e-3), graph=graph, **options)
    nnk.manual_seed(1)
    history = trainer.fit(list(batches(25, 64)), epochs=2)
    return history, {name: backend.asarray_on(array, "cpu") for name, array in model.state_dict().items()}


@pytest.mark.parametrize("options", [{}, {"clip_norm": 0.5}], ids=["plain", "clipped"])
def test_a_graph_ends_with_the_bits_of_eager_steps(options):
    (history, state), (eager_history, eager_state) = trained(True, **options), trained(False, **options)
    assert history == eager_history
    for name, array in state.items():
        np.testing.assert_array_equal(array, eager_state[name], err_msg=name)


def test_a_state_goes_there_and_back(tmp_path):
    pytest.importorskip("safetensors")
    model = network(0.0)
    before = {name: array.copy() for name, array in model.state_dict().items()}
    model.to("cuda")
    nnk.save(model.state_dict(), tmp_path / "model")
    for state in (nnk.load(tmp_path / "model"), model.cpu().state_dict()):
        for name, array in before.items():
            np.testing.assert_array_equal(state[name], array)


def test_threads_and_their_streams_keep_apart():
    import cupy

    x = np.random.default_rng(0).standard_normal((64, 1, 8, 8)).astype(np.float32)
    model = network(0.0).eval()
    with nnk.no_grad():
        want, wrong = model(x), []
    model.to("cuda")

    def work():
        with cupy.cuda.Stream(non_blocking=True) as stream, nnk.no_grad():
            here = cupy.asarray(x)
            for _ in range(50):
                y = model(here).get()
                if not np.allclose(y, want, atol=1e-4):
                    wrong.append(y)
            stream.synchronize()

    work()  # compiles
    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_out_of_memory_says_what_was_asked_for():
    import cupy

    image = cupy.ones((1, 1, 1, 1), np.float32)
    huge = cupy.broadcast_to(image, (2**20, 1, 2**10, 2**10))
    with pytest.raises(cupy.cuda.memory.OutOfMemoryError, match="allocating"):
        nn.ReLU()(huge)
    np.testing.assert_array_equal(nn.ReLU()(image).get(), [[[[1]]]])
