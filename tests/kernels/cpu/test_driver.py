"""Kernels as jobs: how work is split, arguments by name, thread counts, threads beside threads, forks."""

import gc
import importlib.util
import os
import threading
import warnings

import numba
import numpy as np
import pytest
from numba.core.errors import TypingError

from nnk.kernels.cpu import _driver, activation
from nnk.kernels.cpu._driver import FLOAT, INT, PTR, get_num_threads, job, set_num_threads, share
from nnk.kernels.cpu._thread import work_alone
from nnk.kernels.cpu.simd import fload, fstore, lload, lstore

HAS_OMP = importlib.util.find_spec("numba.np.ufunc.omppool") is not None
LAYERS = ["workqueue", pytest.param("omp", marks=pytest.mark.skipif(not HAS_OMP, reason="Numba has no OpenMP here"))]


@job(count=PTR, chunk=PTR)
def note_jobs(first, last, thread, a):
    for i in range(first, last):
        lstore(a.count, i, lload(a.count, i) + 1)
        lstore(a.chunk, i, thread)


@job(out=PTR, x=PTR, scale=FLOAT, big=INT, absent=PTR)
def echo(first, last, thread, a):
    fstore(a.out, 0, a.scale * fload(a.x, 0))
    lstore(a.out, 1, a.big)
    lstore(a.out, 2, a.absent)


@job(x=PTR)
def misspelt(first, last, thread, a):
    lstore(a.y, 0, 1)


@pytest.fixture
def thread_count(monkeypatch):
    """Leaves the process's number of threads as it was."""
    monkeypatch.setattr(_driver, "_threads", _driver._threads)
    monkeypatch.delenv("NNK_NUM_THREADS", raising=False)


# ---------------------------------------------------------------- jobs
@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("jobs", [1, 2, 5, 64, 1001])
def test_every_job_is_done_once_in_even_chunks(jobs, threads):
    count, chunk = np.zeros(jobs, np.int64), np.full(jobs, -1)
    note_jobs(jobs, threads=threads, count=count, chunk=chunk)
    assert (count == 1).all()
    threads = min(threads, jobs)
    assert np.array_equal(chunk, np.repeat(np.arange(threads), np.diff(np.arange(threads + 1) * jobs // threads)))


def test_no_jobs_is_no_call():
    note_jobs(0, count=None, chunk=None)


def test_all_threads_by_default(thread_count):
    chunk = np.full(100, -1)
    note_jobs(100, count=np.zeros(100, np.int64), chunk=chunk)
    assert chunk.max() == get_num_threads() - 1
    set_num_threads(1)
    note_jobs(100, count=np.zeros(100, np.int64), chunk=chunk)
    assert chunk.max() == 0


def test_arguments_go_by_name():
    out = np.zeros(3, np.int64)
    echo(1, absent=None, big=-(1 << 62), scale=0.1, x=np.float32([3]), out=out)
    assert out.view(np.float32)[0] == np.float32(0.1) * np.float32(3)
    assert out[1:].tolist() == [-(1 << 62), 0]


@pytest.mark.parametrize("wrong", [{}, {"x": 0}, {"count": 0, "chnk": 0}, {"count": 0, "chunk": 0, "n": 1}])
def test_wrong_arguments_are_named(wrong):
    with pytest.raises(TypeError, match="note_jobs takes count, chunk; got " + ", ".join(wrong)):
        note_jobs(1, **wrong)


def test_a_plan_is_a_call_made_many_times():
    plan = echo.plan(1, threads=1, scale=2.0, big=7, x=np.float32([3]))
    gc.collect()  # the plan keeps x
    for _ in range(2):
        out = np.ones(3, np.int64)
        plan(out=out, absent=None)
        assert out.view(np.float32)[0] == 6
        assert out[1:].tolist() == [7, 0]
    echo.plan(0, threads=2, scale=1, big=1, x=None, absent=None)(out=None)


@pytest.mark.parametrize("wrong", [{}, {"chunk": 0}, {"count": 0, "n": 1}])
def test_wrong_arguments_of_a_plan_are_named(wrong):
    plan = note_jobs.plan(1, threads=1, chunk=np.zeros(1, np.int64))
    with pytest.raises(TypeError, match="note_jobs takes count; got " + ", ".join(wrong)):
        plan(**wrong)
    with pytest.raises(TypeError, match="note_jobs takes count, chunk; got"):
        note_jobs.plan(1, threads=1, n=0)


def test_a_call_leaves_numba_s_number_of_threads_alone():
    before = numba.get_num_threads()
    for allowed in range(1, before + 1):
        numba.set_num_threads(allowed)
        for threads in (2, before + 1):
            note_jobs(8, threads=threads, count=np.zeros(8, np.int64), chunk=np.zeros(8, np.int64))
            assert numba.get_num_threads() == allowed
    numba.set_num_threads(before)


def test_a_kernel_that_asks_for_an_unknown_argument_does_not_compile():
    with pytest.raises(TypingError, match="y"):
        misspelt(1, x=np.zeros(1))


# ---------------------------------------------------------------- how many threads
@pytest.mark.parametrize("n", [0, -1, True, 1.5, "2", None])
def test_a_number_of_threads_is_a_positive_integer(n, thread_count):
    before = get_num_threads()
    with pytest.raises(ValueError, match="positive integer"):
        set_num_threads(n)
    assert get_num_threads() == before


def test_more_threads_than_cores_are_capped(thread_count):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        set_num_threads(np.int64(1))
    assert get_num_threads() == 1
    with pytest.warns(UserWarning, match="10000 threads"):
        set_num_threads(10000)
    most = get_num_threads()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        set_num_threads(most)
    with pytest.warns(UserWarning, match="cores"):
        set_num_threads(most + 1)


def test_small_work_is_not_shared(thread_count):
    assert share(0) == share(100) == 1
    assert share(1 << 40) == get_num_threads()


PRINT_THREADS = "from nnk.kernels.cpu._driver import get_num_threads; print(get_num_threads(), get_num_threads())"


def test_the_environment_sets_the_number_of_threads(python):
    assert python(PRINT_THREADS, NNK_NUM_THREADS=1) == "1 1"
    assert python(PRINT_THREADS, NNK_NUM_THREADS=3, NUMBA_NUM_THREADS=4) == "3 3"
    assert python(PRINT_THREADS, NUMBA_NUM_THREADS=4) == "4 4"


@pytest.mark.parametrize("value", ["0", "-2", "two", "1.5"])
def test_a_bad_environment_is_named(value, monkeypatch):
    monkeypatch.setattr(_driver, "_threads", None)
    monkeypatch.setenv("NNK_NUM_THREADS", value)
    with pytest.raises(ValueError, match=rf"NNK_NUM_THREADS must be a positive integer, got '{value}'"):
        get_num_threads()


def test_a_large_environment_is_capped(monkeypatch):
    monkeypatch.setattr(_driver, "_threads", None)
    monkeypatch.setenv("NNK_NUM_THREADS", "10000")
    with pytest.warns(UserWarning, match="10000 threads"):
        most = get_num_threads()
    assert 1 <= most < 10000


# ---------------------------------------------------------------- Python threads and processes
@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS == 1, reason="one core")
def test_a_thread_that_works_alone_wakes_no_other(monkeypatch, thread_count):
    def refuse(order):
        raise AssertionError("the parallel driver was called")

    x = np.random.default_rng(0).standard_normal(100_000).astype(np.float32)
    set_num_threads(2)
    want = activation.relu(x)
    monkeypatch.setitem(_driver._drivers, "parallel", refuse)
    got = []

    def helper():
        work_alone()
        got.append(activation.relu(x))

    thread = threading.Thread(target=helper)
    thread.start()
    thread.join()
    assert np.array_equal(got[0], want)
    with pytest.raises(AssertionError, match="parallel driver"):
        activation.relu(x)


def test_python_threads_call_one_kernel_at_once():
    failures = []

    def work(seed):
        rng = np.random.default_rng(seed)
        for _ in range(40):
            x = rng.standard_normal(rng.integers(1, 200_000)).astype(np.float32)
            slope = float(rng.random())
            y = activation.leaky_relu(x, negative_slope=slope)
            if not np.array_equal(y, np.where(x > 0, x, np.float32(slope) * x)):
                failures.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert not failures


# Python threads that call kernels at once, on the threading layer that the environment names.
CONCURRENT = """
import threading
import numpy as np
from nnk.kernels.cpu import _driver, activation

x = np.random.default_rng(0).standard_normal(300_000).astype(np.float32)
wrong = []

def work(slope):
    for _ in range(50):
        y = activation.leaky_relu(x, negative_slope=slope)
        if not np.array_equal(y, np.where(x > 0, x, np.float32(slope) * x)):
            wrong.append(slope)

threads = [threading.Thread(target=work, args=(0.1 * k,)) for k in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(_driver.threading_layer(), len(wrong))
"""


@pytest.mark.parametrize("layer", LAYERS)
def test_python_threads_on_each_layer(layer, python):
    assert python(CONCURRENT, NUMBA_THREADING_LAYER=layer, NUMBA_NUM_THREADS=2) == f"{layer} 0"


@pytest.mark.skipif(not HAS_OMP, reason="Numba has no OpenMP here")
@pytest.mark.parametrize(("chosen", "spins"), [({}, "4000"), ({"GOMP_SPINCOUNT": 7}, "7"),
                                               ({"OMP_WAIT_POLICY": "passive"}, "0")])
def test_waiting_threads_spin_briefly_unless_the_user_has_chosen(chosen, spins, python, monkeypatch):
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    program = """
import os
before = dict(os.environ)
from nnk.kernels.cpu import _driver
_driver.threading_layer()
print(os.environ == before)
"""
    process = python.start(program, NUMBA_THREADING_LAYER="omp", OMP_DISPLAY_ENV="verbose", **chosen)
    out, shown = process.communicate(timeout=120)
    assert out == "True\n"
    if "GOMP_SPINCOUNT" not in shown:
        pytest.skip("an OpenMP other than GNU's")
    assert f"GOMP_SPINCOUNT = '{spins}'" in shown


# A child forked before, after or during a parallel kernel computes the same; so does its own child.
FORK = """
import os, sys, threading, warnings
import numpy as np
from nnk.kernels.cpu import activation

warnings.simplefilter("ignore", DeprecationWarning)  # Python's, of forks beside threads
moment = sys.argv[1]
x = np.random.default_rng(0).standard_normal(300_000).astype(np.float32)
right = np.maximum(x, 0)
correct = lambda: np.array_equal(activation.relu(x), right)

def in_child(work):
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if work() else 2
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

def compute():
    return all(correct() for _ in range(3)) and (moment == "before" or in_child(correct))

done = threading.Event()
beside = threading.Thread(target=lambda: [correct() for _ in iter(done.is_set, True)])
if moment != "before": assert correct()
if moment == "during": beside.start()
children = [in_child(compute) for _ in range(5)]
done.set()
if moment == "during": beside.join()
print(*children, correct())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("moment", ["before", "after", "during"])
def test_a_forked_child_computes(moment, layer, python):
    assert python(FORK, moment, NUMBA_THREADING_LAYER=layer, NUMBA_NUM_THREADS=2) == " ".join(["True"] * 6)


def test_results_do_not_depend_on_the_number_of_threads(thread_count):
    x = np.random.default_rng(0).standard_normal(300_001).astype(np.float32)
    set_num_threads(1)
    alone = activation.tanh(x)
    for n in range(2, _driver.numba.config.NUMBA_NUM_THREADS + 1):
        set_num_threads(n)
        assert np.array_equal(activation.tanh(x), alone)


# ---------------------------------------------------------------- compiling
def test_listeners_hear_of_compilations_only(python, tmp_path):
    program = """
import numpy as np
from nnk.kernels.cpu import _driver, activation
names = []
_driver.listeners.append(names.append)
for _ in range(2): activation.relu(np.ones(3, np.float32))
activation.sigmoid(np.ones(3, np.float32))
print(*names)
"""
    assert python(program, NUMBA_CACHE_DIR=tmp_path) == "_relu_blocks _serial _sigmoid_blocks"
    assert python(program, NUMBA_CACHE_DIR=tmp_path) == ""
