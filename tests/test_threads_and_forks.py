"""Training in several Python threads at once, beside a loader, and in processes forked off a program that has trained.

Each program runs by itself, on each of Numba's threading layers, so that a hang or a crash is only a failed test.
"""

import importlib.util
import os

import pytest

HAS_OMP = importlib.util.find_spec("numba.np.ufunc.omppool") is not None
LAYERS = ["workqueue", pytest.param("omp", marks=pytest.mark.skipif(not HAS_OMP, reason="Numba has no OpenMP here"))]
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")

# train(task) trains a network of its own and returns its weights and losses as bytes: five tasks, no two alike.
TRAIN = """
import os, sys, threading, warnings
import numpy as np
import nnk
from nnk import data, models, nn, optim
from nnk.train import Trainer

warnings.simplefilter("ignore", DeprecationWarning)  # Python's, of forks beside threads

def network(task):
    nnk.manual_seed(task)
    pooled = nn.Sequential(nn.Conv2d(1, 24, 3, stride=2, groups=1), nn.Sigmoid(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
                           nn.Linear(96, 10))
    depthwise = nn.Sequential(nn.Conv2d(1, 20, 5, padding=2), nn.BatchNorm2d(20), nn.LeakyReLU(),
                              nn.Conv2d(20, 20, 3, groups=20), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(180, 10))
    return [models.digits_cnn(), models.lenet((1, 8, 8)), pooled, depthwise, models.resnet20((1, 8, 8))][task]

NETWORKS = [network(task) for task in range(5)]
START = [{name: value.copy() for name, value in model.state_dict().items()} for model in NETWORKS]

def train(task):
    model, rng = NETWORKS[task], np.random.default_rng(task)
    model.load_state_dict(START[task])
    optimizer = optim.SGD(model.parameters(), 0.05, momentum=0.9) if task % 2 else optim.Adam(model.parameters())
    criterion = nn.CrossEntropyLoss()
    losses = []
    for batch in (32, 7, 32, 100, 1):
        x, y = rng.standard_normal((batch, 1, 8, 8), dtype=np.float32), rng.integers(0, 10, batch)
        optimizer.zero_grad()
        losses.append(criterion(model(x), y))
        model.backward(criterion.backward(), input_grad=False)
        optimizer.step()
    return b"".join(value.tobytes() for value in [*losses, *model.state_dict().values()])

ALONE = [train(task) for task in range(5)]
"""

IN_THREADS = TRAIN + """
wrong = []

def work(task):
    for _ in range(3):
        if train(task) != ALONE[task]:
            wrong.append(task)

threads = [threading.Thread(target=work, args=(task,)) for task in range(5)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(wrong)
"""


@pytest.mark.parametrize("layer", LAYERS)
def test_different_networks_train_in_python_threads_at_once(layer, python):
    assert python(IN_THREADS, NUMBA_THREADING_LAYER=layer, NUMBA_NUM_THREADS=2) == "[]"


WITH_LOADER = TRAIN + """
from nnk.kernels import cpu

rng = np.random.default_rng(0)
images, labels = rng.standard_normal((200, 1, 8, 8), dtype=np.float32), rng.integers(0, 10, 200)

def blur(batch):
    return cpu.avg_pool2d(batch, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))

def fit(prefetch):
    model = NETWORKS[0]
    model.load_state_dict(START[0])
    loader = data.DataLoader(data.ArrayDataset(images, labels, transform=blur), 32, shuffle=True, seed=1,
                             prefetch=prefetch)
    Trainer(model).fit(loader, epochs=4)
    return b"".join(value.tobytes() for value in model.state_dict().values())

print(fit(0) == fit(3))
"""


@pytest.mark.parametrize("layer", LAYERS)
def test_a_loader_that_calls_kernels_beside_the_trainer(layer, python):
    assert python(WITH_LOADER, NUMBA_THREADING_LAYER=layer, NUMBA_NUM_THREADS=2) == "True"


FORK = TRAIN + """
def in_child(task):
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if train(task) == ALONE[task] else 2)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

done = threading.Event()
beside = threading.Thread(target=lambda: [train(4) for _ in iter(done.is_set, True)])
if sys.argv[1] == "beside": beside.start()
codes = [in_child(task) for task in range(4)]
done.set()
if sys.argv[1] == "beside": beside.join()
print(*codes, train(0) == ALONE[0])
"""


@needs_fork
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("moment", ["after", "beside"])
def test_a_forked_child_trains(moment, layer, python):
    """After the parent has trained, or while another thread of it trains: the child gets the very same weights."""
    assert python(FORK, moment, NUMBA_THREADING_LAYER=layer, NUMBA_NUM_THREADS=2) == "0 0 0 0 True"


POOL = TRAIN + """
import multiprocessing

if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(2) as pool:
        print(pool.map(train, range(4)) == ALONE[:4], train(1) == ALONE[1])
"""


@needs_fork
@pytest.mark.parametrize("layer", LAYERS)
def test_a_pool_of_forked_processes_trains(layer, python):
    assert python(POOL, NUMBA_THREADING_LAYER=layer, NUMBA_NUM_THREADS=2) == "True True"


# The parent compiles in a thread all the while; the first child needs a kernel that nobody has compiled yet. All files
# are imported before: Python itself deadlocks in a child that was forked while another thread imported.
FORK_WHILE_COMPILING = """
import os, threading, time, warnings
import numpy as np
from nnk.kernels import cpu
from nnk.kernels.cpu import activation, linear

warnings.simplefilter("ignore", DeprecationWarning)
x = np.linspace(-2, 2, 50, dtype=np.float32)

def compile_many():
    for name in ("tanh", "leaky_relu", "linear_bgrad"):
        getattr(cpu, name)(x if name != "linear_bgrad" else x[None])

beside = threading.Thread(target=compile_many)
beside.start()
codes = []
for _ in range(4):
    time.sleep(0.15)
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if np.allclose(cpu.sigmoid(x), 1 / (1 + np.exp(-x))) else 2)
        finally:
            os._exit(1)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
beside.join()
print(*codes)
"""


@needs_fork
def test_a_fork_while_another_thread_compiles(python, tmp_path):
    assert python(FORK_WHILE_COMPILING, NUMBA_CACHE_DIR=tmp_path) == "0 0 0 0"


FORK_WHILE_DRAWING = """
import os
from nnk import random

with random._lock:
    child = os.fork()
    if child == 0:
        random.next_call()
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@needs_fork
def test_a_fork_while_another_thread_draws(python):
    assert python(FORK_WHILE_DRAWING) == "0"
