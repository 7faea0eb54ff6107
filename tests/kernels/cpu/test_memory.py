"""The pool of blocks: who holds memory, when it comes back, and that nobody shares it."""

import gc
import threading
from itertools import pairwise

import numpy as np
import pytest

from nnk.kernels.cpu import _memory
from nnk.kernels.cpu._memory import ALIGNMENT, empty, empty_cache, poison, workspace

FLOAT, INT32, INT64, BYTE = map(np.dtype, (np.float32, np.int32, np.int64, np.uint8))


@pytest.fixture(autouse=True)
def empty_pool():
    """Each test begins and ends with no free blocks, so that it sees only its own."""
    gc.collect()
    empty_cache()
    yield
    poison(None)
    empty_cache()


def address(x):
    return x.__array_interface__["data"][0]


def free_blocks():
    return sum(len(home) for home in _memory._free.values())


# ---------------------------------------------------------------- arrays
@pytest.mark.parametrize("dtype", [FLOAT, INT32, INT64, BYTE])
@pytest.mark.parametrize("shape", [(), (1,), (3, 5), (2, 3, 4, 5), (1000, 1000)])
def test_arrays_are_plain_aligned_and_writeable(shape, dtype):
    x = empty(shape, dtype)
    assert type(x) is np.ndarray
    assert (x.shape, x.dtype) == (shape, dtype)
    assert x.flags.c_contiguous
    assert x.flags.writeable
    assert address(x) % ALIGNMENT == 0
    x[...] = 7
    assert (x == 7).all()


@pytest.mark.parametrize("shape", [(0,), (0, 3, 4, 4), (2, 0, 5)])
def test_arrays_without_elements(shape):
    x = empty(shape)
    assert (x.shape, x.dtype, x.size) == (shape, FLOAT, 0)
    del x
    assert free_blocks() == 0


def test_strides_without_gaps():
    x = empty((2, 3, 4), strides=(48, 4, 12))
    assert (x.shape, x.strides) == ((2, 3, 4), (48, 4, 12))
    assert address(x) % ALIGNMENT == 0


@pytest.mark.parametrize("nbytes", [1, 511, 512, 513, 577, 4096, 4097, 65537, 10**6, 10**9 + 1])
def test_a_size_class_wastes_an_eighth_at_most(nbytes):
    size = _memory._size_class(nbytes)
    assert nbytes <= size <= max(512, nbytes * 9 / 8)
    assert _memory._size_class(size) == size
    assert size % ALIGNMENT == 0


def test_living_arrays_never_share_memory():
    rng = np.random.default_rng(0)
    alive = []
    for _ in range(500):
        if alive and rng.random() < 0.45:
            alive.pop(rng.integers(len(alive)))
        else:
            alive.append(empty((int(rng.integers(1, 3000)),)))
        spans = sorted((address(x), address(x) + x.nbytes) for x in alive)
        assert all(stop <= start for (_, stop), (start, _) in pairwise(spans))


# ---------------------------------------------------------------- coming back
def test_a_block_comes_back_with_its_last_view_and_not_before():
    x = empty((100, 10))
    first = address(x)
    view = x[3:, ::2].T
    del x
    gc.collect()
    assert free_blocks() == 0
    other = empty((100, 10))
    assert address(other) != first
    view[...] = 1
    other[...] = 2
    assert (view == 1).all()
    del view
    assert free_blocks() == 1
    again = empty((100, 10))
    assert address(again) == first
    assert free_blocks() == 0


@pytest.mark.parametrize("keep", [
    lambda x: memoryview(x),
    lambda x: x.reshape(-1)[5:6],
    lambda x: x.view(np.int32),
    lambda x: np.asarray(x).T,
    lambda x: np.frombuffer(x.data, np.uint8),
    lambda x: [x.flat],
], ids=["memoryview", "slice", "view", "asarray", "frombuffer", "iterator"])
def test_whatever_sees_the_memory_keeps_it(keep):
    x = empty((8, 8))
    kept = keep(x)
    del x
    gc.collect()
    assert free_blocks() == 0
    del kept
    gc.collect()
    assert free_blocks() == 1


def test_a_block_serves_every_shape_and_type_of_its_size_class():
    x = empty((1000,))
    first = address(x)
    del x
    assert address(empty((10, 25, 4))) == first
    assert address(empty((1000,), INT32)) == first
    assert address(empty((4000,), BYTE)) == first
    assert address(empty((995,))) == first


def test_a_block_of_up_to_twice_the_size_serves():
    x = empty((1024,))
    first = address(x)
    del x
    half = empty((512,))
    assert address(half) == first
    assert address(empty((1024,))) != first
    empty_cache()
    del half
    assert address(empty((448,))) != first  # less than half
    assert address(empty((513,))) == first


@pytest.mark.parametrize("size", [512, 576, 960, 1024, 1152, 4096, 10 * 2**20])
def test_size_classes_follow_each_other(size):
    assert _memory._size_class(size) == size
    following = size + (1 << size.bit_length() - 4)
    assert _memory._size_class(size + 1) == following


def test_batches_of_changing_size_soon_need_nothing_new():
    def step(batch):
        held = [empty((batch, n)) for n in (3000, 100, 3000, 700, 1500)]
        del held[1:3]
        held.append(empty((batch, 2000)))
        return {address(x) for x in held}

    seen = step(128)
    batches = np.random.default_rng(0).integers(64, 129, 100).tolist()
    for batch in batches[:50]:
        seen |= step(batch)
    assert all(step(batch) <= seen for batch in batches[50:])
    assert sum(size * len(home) for size, home in _memory._free.items()) < 1.5 * 128 * 8300 * 4


def test_an_array_in_a_cycle_comes_back_when_the_garbage_is_collected():
    ring = [empty((50,))]
    ring.append(ring)
    del ring
    assert free_blocks() == 0
    gc.collect()
    assert free_blocks() == 1


def test_a_repeated_step_allocates_nothing_new():
    def step():
        held = [empty((n, 7)) for n in (10, 200, 200, 3000)]
        return {address(x) for x in held}

    first = step()
    assert all(step() == first for _ in range(5))
    assert free_blocks() == len(first)


def test_above_the_cap_free_blocks_go_to_the_system(monkeypatch):
    monkeypatch.setattr(_memory, "CAP", 100_000)
    held = [empty((10_000,)) for _ in range(5)]
    del held
    assert free_blocks() == 5
    empty((10_000,))  # taken from the free blocks
    assert free_blocks() == 5
    x = empty((3,))  # no block of this size: the pool must ask the system, and gives back first
    assert free_blocks() == 0
    del x
    assert free_blocks() == 1


def test_empty_cache_spares_living_arrays():
    x, y = empty((100,)), empty((100,))
    x[:] = 3
    del y
    assert free_blocks() == 1
    empty_cache()
    assert free_blocks() == 0
    z = empty((100,))
    z[:] = 4
    assert (x == 3).all()
    del x
    assert free_blocks() == 1


def test_python_threads_hold_what_they_hold():
    wrong = []

    def work(seed):
        rng, alive = np.random.default_rng(seed), []
        for i in range(2000):
            x = empty((int(rng.integers(1, 600)),))
            x[:] = seed * 10_000 + i
            alive.append((x, seed * 10_000 + i))
            if len(alive) > 20:
                x, value = alive.pop(rng.integers(len(alive)))
                if not (x == value).all():
                    wrong.append(value)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# ---------------------------------------------------------------- scratch memory
def test_a_workspace_is_kept_and_grows():
    first = workspace("a", 100)
    assert first.size >= 100
    assert address(workspace("a", 50)) == address(first)
    assert not np.may_share_memory(workspace("b", 50), first)
    larger = workspace("a", first.size + 1)
    assert larger.size > first.size
    assert address(workspace("a", 1)) == address(larger)


def test_each_python_thread_has_its_own_workspace():
    mine, theirs = workspace("a", 100), []
    thread = threading.Thread(target=lambda: theirs.append(workspace("a", 100)))
    thread.start()
    thread.join()
    assert not np.may_share_memory(mine, theirs[0])


def test_empty_cache_lets_go_of_workspaces():
    workspace("a", 1000)
    assert free_blocks() == 0
    empty_cache()
    assert "a" not in _memory._scratch.__dict__


# ---------------------------------------------------------------- modes and the end
def test_poison_fills_new_arrays_and_workspaces():
    poison(np.nan)
    assert np.isnan(empty((3, 5))).all()
    assert np.isnan(empty(())).all()
    assert (empty((9,), BYTE) == 85).all()
    assert (empty((9,), INT32) == 85).all()
    space = workspace("a", 10)
    space[:] = 0
    assert np.isnan(workspace("a", 5)).all()
    poison(None)
    space[:] = 2
    assert (workspace("a", 5) == 2).all()


@pytest.mark.parametrize("holder", [
    "kept = memory.empty((1000,))",
    "kept = memory.empty((1000,))[10:]; del memory, np",
    "ring = [memory.empty((1000,))]; ring.append(ring); del ring",
    "memory.workspace('a', 1000)",
    "import sys; sys.kept = memory.empty((1000,))",
    "class C:\n    def __init__(self): self.x = memory.empty((9,))\n    def __del__(self): self.x[:] = 1\nkept = C()",
    "import threading\nlocal = threading.local(); local.x = memory.empty((9,))",
    "import threading, time\n"
    "def work():\n    x = memory.empty((9,)); time.sleep(30)\n"
    "threading.Thread(target=work, daemon=True).start()",
])
def test_the_interpreter_ends_in_silence(holder, python):
    assert python(f"import numpy as np\nfrom nnk.kernels.cpu import _memory as memory\n{holder}\nprint('end')") == "end"
