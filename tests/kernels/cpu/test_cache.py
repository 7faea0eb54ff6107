"""Where compiled kernels are kept: no stale code, no stranger's code, no quarrel between processes."""

import os
import pathlib
import shutil
import signal
import time

import pytest
from numba import types

from nnk.kernels import codestore
from nnk.kernels.cpu import _cache
from nnk.kernels.cpu._compile import Native

needs_owners = pytest.mark.skipif(not hasattr(os, "getuid"), reason="files have no owner here")


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """The module as a new process finds it, with its folders under tmp_path / "home" and tmp_path / "temp"."""
    (tmp_path / "temp").mkdir(mode=0o700)
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "home"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temp"))
    _cache._store.places.cache_clear()
    yield _cache
    _cache._store.places.cache_clear()


# ---------------------------------------------------------------- the name of the folder
def test_the_folder_is_named_by_the_sources(cache, monkeypatch, tmp_path):
    sources = tmp_path / "sources"
    shutil.copytree(pathlib.Path(_cache.__file__).parent, sources)
    monkeypatch.setattr(_cache, "_SOURCES", sources)
    names = [cache._stamp()]
    assert cache._stamp() == names[0]
    for path in sorted(sources.glob("*.py")):
        path.write_text(path.read_text() + "\n")
        names.append(cache._stamp())
    (sources / "relu.py").write_text("")
    names.append(cache._stamp())
    (sources / "relu.py").rename(sources / "another.py")
    names.append(cache._stamp())
    monkeypatch.setattr(cache.numba, "__version__", "0.0.1")
    names.append(cache._stamp())
    for flag, value in (("OPT", 1), ("BOUNDSCHECK", 1), ("LOOP_VECTORIZE", 0), ("SLP_VECTORIZE", 1)):
        monkeypatch.setattr(cache.config, flag, value)
        names.append(cache._stamp())
    assert len(set(names)) == len(names)


def test_the_folder_is_named_by_the_cpu(python, tmp_path):
    program = "from nnk.kernels.cpu import _cache; print(_cache.folder())"
    settings = {}, {"NUMBA_CPU_NAME": "haswell"}, {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": ""}
    names = [python(program, NUMBA_CACHE_DIR=tmp_path, **setting) for setting in (*settings, {})]
    assert len(set(names)) == 3
    assert names[0] == names[3]


TANH = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np
from kernels import cpu
from kernels.cpu import _driver
compiled = []
_driver.listeners.append(compiled.append)
print(float(cpu.tanh(np.ones(1, np.float32))[0]), len(compiled))
"""


def test_an_edit_in_an_imported_file_is_seen(python, tmp_path):
    package = pathlib.Path(_cache.__file__).parent.parent
    shutil.copytree(package, tmp_path / "kernels", ignore=shutil.ignore_patterns("__pycache__"))
    environment = {"NUMBA_CACHE_DIR": tmp_path / "cache", "PYTHONDONTWRITEBYTECODE": "1"}
    before, compiled = python(TANH, tmp_path, **environment).split()
    assert (float(before), compiled) == (pytest.approx(0.76159416), "2")  # the kernel, and what calls it
    assert python(TANH, tmp_path, **environment) == f"{before} 0"
    source = tmp_path / "kernels" / "cpu" / "_math.py"
    text = source.read_text()
    assert "def vtanh(x):" in text
    source.write_text(text.replace("def vtanh(x):", "def vtanh(x):\n    return x * 2.0\n\n\n@inner\ndef _before(x):"))
    assert python(TANH, tmp_path, **environment) == "2.0 2"


# ---------------------------------------------------------------- the place of the folder
def test_numba_cache_dir_wins(cache, monkeypatch, tmp_path):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "mine"))
    assert cache.folder() == tmp_path / "mine" / cache.folder().name
    assert not (tmp_path / "home").exists()


def test_a_relative_folder_stays_where_it_was(cache, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NUMBA_CACHE_DIR", "here")
    cache.folder()
    monkeypatch.chdir(tmp_path / "temp")
    cache.write("kernel", b"code")
    assert (tmp_path / "here" / cache.folder().name / "kernel").exists()


def test_the_user_alone_may_enter(cache, tmp_path):
    path = cache.folder()
    assert path.is_relative_to(tmp_path / "home")
    assert path.name.startswith("cpu-")
    assert (path / "used").exists()
    if os.name == "posix":
        assert path.stat().st_mode & 0o777 == 0o700


@needs_owners
@pytest.mark.parametrize("mode", [0o770, 0o720, 0o702, 0o777])
def test_a_folder_that_others_can_write_is_refused(mode, cache, tmp_path):
    refused = cache.folder()
    refused.chmod(mode)
    cache._store.places.cache_clear()
    path = cache.folder()
    assert path == tmp_path / "temp" / f"nnk-{os.getuid()}" / refused.name
    assert path.stat().st_mode & 0o777 == path.parent.stat().st_mode & 0o777 == 0o700


@needs_owners
def test_only_this_user_and_root_are_trusted(cache, monkeypatch):
    home = cache.folder()
    owner = home.stat().st_uid
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    assert codestore._is_private(home) == (owner == 0)
    monkeypatch.setattr(os, "getuid", lambda: owner)
    assert codestore._is_private(home)


@pytest.mark.parametrize("obstacle", ["a file", "a place where nothing can be made"])
def test_without_a_home_the_temporary_folder_serves(obstacle, cache, tmp_path, monkeypatch):
    home = tmp_path / "home"
    home.write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(home if obstacle == "a file" else home / "below"))
    path = cache.folder()
    assert path.parent.parent == tmp_path / "temp"
    assert (path / "used").exists()
    cache.write("kernel", b"code")
    assert cache.read("kernel") == b"code"


def test_a_user_without_a_home(cache, tmp_path, monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("LOCALAPPDATA")
    monkeypatch.setattr(pathlib.Path, "home", no_home)
    assert cache.folder().parent.parent == tmp_path / "temp"


def test_what_is_kept_where_nothing_can_be_written_is_read(cache, tmp_path, monkeypatch):
    cache.write("old", b"code")
    cache.write("damaged", b"code")
    home = cache.folder()
    (home / "damaged").write_bytes(b"")
    cache._store.places.cache_clear()
    may = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != home and may(path, mode))
    assert cache.read("old") == b"code"
    assert cache.read("damaged") is None
    cache.write("damaged", b"whole")
    assert cache.read("damaged") == b"whole"
    assert cache.folder().parent.parent == tmp_path / "temp"
    assert (home / "damaged").read_bytes() == b""


@needs_owners
def test_without_any_private_folder_a_warning_says_what_to_do(cache, tmp_path):
    (tmp_path / "home").write_text("")
    (tmp_path / "temp" / f"nnk-{os.getuid()}").mkdir()
    (tmp_path / "temp" / f"nnk-{os.getuid()}").chmod(0o777)
    assert cache.folder() is None
    with pytest.warns(UserWarning, match=r"are not kept.* NUMBA_CACHE_DIR"):
        cache.write("kernel", b"code")
    assert cache.read("kernel") is None
    assert cache.size() == 0
    cache.clear()


def test_a_full_disk_is_a_warning_and_leaves_nothing(cache, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    cache.write("kernel", b"code")
    monkeypatch.setattr(os, "replace", full)
    with pytest.warns(UserWarning, match=r"No space left"):
        cache.write("kernel", b"other")
    assert cache.read("kernel") == b"code"
    assert {path.name for path in cache.folder().iterdir()} == {"kernel", "used"}


# ---------------------------------------------------------------- old folders
def test_folders_unused_for_a_month_are_deleted(cache, tmp_path):
    base = cache.folder().parent
    day = 24 * 3600
    for name, age in (("cpu-old", 31 * day), ("cpu-recent", 29 * day), ("cuda-old", 31 * day)):
        (base / name / "code").mkdir(parents=True)
        (base / name / "used").touch()
        os.utime(base / name / "used", (time.time() - age,) * 2)
    (base / "cpu-unmarked").mkdir()
    os.utime(cache.folder() / "used", (time.time() - 31 * day,) * 2)
    current = cache.folder()
    cache._store.places.cache_clear()
    assert cache.folder() == current
    assert {path.name for path in base.iterdir()} == {current.name, "cpu-recent", "cuda-old", "cpu-unmarked"}
    assert time.time() - (current / "used").stat().st_mtime < day


def test_clear_deletes_every_folder_and_a_new_one_can_be_made(cache):
    current = cache.folder()
    (current.parent / "cpu-other").mkdir()
    (current.parent / "else").mkdir()
    cache.clear()
    assert [path.name for path in current.parent.iterdir()] == ["else"]
    assert cache.folder() == current
    assert current.exists()


def test_size_counts_every_folder(cache):
    cache.write("kernel", bytes(1000))
    (cache.folder().parent / "cpu-other").mkdir()
    (cache.folder().parent / "cpu-other" / "kernel").write_bytes(bytes(500))
    assert cache.size() == 1532


# ---------------------------------------------------------------- files
@pytest.mark.parametrize("damage", [
    lambda content: b"",
    lambda content: content[:20],
    lambda content: content[:-1],
    lambda content: content[: len(content) // 2],
    lambda content: content + b"\0",
    lambda content: content[:100] + bytes([content[100] ^ 1]) + content[101:],
    lambda content: bytes(len(content)),
    lambda content: None,
], ids=["empty", "hash cut", "byte missing", "half", "byte more", "bit flipped", "zeros", "a folder"])
def test_a_damaged_file_counts_as_missing(damage, cache):
    cache.write("kernel", bytes(range(256)) * 4)
    assert cache.read("kernel") == bytes(range(256)) * 4
    path = cache.folder() / "kernel"
    content = damage(path.read_bytes())
    if content is None:
        path.unlink()
        path.mkdir()
        assert cache.read("kernel") is None
        return
    path.write_bytes(content)
    assert cache.read("kernel") is None
    cache.write("kernel", b"new")
    assert cache.read("kernel") == b"new"


def test_a_folder_that_was_cleared_meanwhile_is_made_again(cache):
    cache.write("kernel", b"code")
    shutil.rmtree(cache.folder())
    assert cache.read("kernel") is None
    cache.write("kernel", b"code")
    assert cache.read("kernel") == b"code"


def test_kernels_of_other_files_are_not_kept(cache):
    function = eval("lambda n: None", {"__name__": "somewhere.else"})
    assert Native(function, types.int64).prepare()
    assert {path.name for path in cache.folder().iterdir()} == {"used"}


# ---------------------------------------------------------------- several processes
PARALLEL = """
import numpy as np
from nnk.kernels import cpu
from nnk.kernels.cpu import _driver
compiled = []
_driver.listeners.append(compiled.append)
x = np.linspace(-3, 3, 200_000, dtype=np.float32)
assert np.array_equal(cpu.relu(x), np.maximum(x, 0))
assert np.allclose(cpu.sigmoid(x), 1 / (1 + np.exp(-x)))
assert np.array_equal(cpu.add(x, x), 2 * x)
print(len(compiled))
"""


def test_processes_may_fill_the_folder_at_once(python, tmp_path):
    for process in [python.start(PARALLEL, NUMBA_CACHE_DIR=tmp_path, NUMBA_NUM_THREADS=2) for _ in range(3)]:
        python.finish(process)
    assert python(PARALLEL, NUMBA_CACHE_DIR=tmp_path, NUMBA_NUM_THREADS=2) == "0"


def test_functions_of_one_name_from_two_processes_stay_apart(python, tmp_path):
    """Numba's names hold a count that starts anew in each process: the loops inside these two kernels share one."""
    program = "import sys, numpy as np\nfrom nnk.kernels import cpu\nx = np.float32([-1, 2])\n"
    program += "for name in sys.argv[1:]: print(name, *np.round(1000 * getattr(cpu, name)(x)).astype(int))"
    sigmoid, tanh = "sigmoid 269 881", "tanh -762 964"
    assert python(program, "sigmoid", NUMBA_CACHE_DIR=tmp_path / "a") == sigmoid
    assert python(program, "tanh", NUMBA_CACHE_DIR=tmp_path / "b") == tanh
    shutil.copytree(tmp_path / "a", tmp_path / "b", dirs_exist_ok=True)
    assert python(program, "sigmoid", "tanh", NUMBA_CACHE_DIR=tmp_path / "b") == f"{sigmoid}\n{tanh}"


def test_a_damaged_kernel_is_compiled_again(python, tmp_path):
    assert python(PARALLEL, NUMBA_CACHE_DIR=tmp_path, NUMBA_NUM_THREADS=2) == "4"
    for number, path in enumerate(sorted(tmp_path.rglob("*_blocks"))):
        content = path.read_bytes()
        path.write_bytes((b"", content[:-100], content[:200] + b"?" + content[201:])[number])
    assert python(PARALLEL, NUMBA_CACHE_DIR=tmp_path, NUMBA_NUM_THREADS=2) == "3"
    assert python(PARALLEL, NUMBA_CACHE_DIR=tmp_path, NUMBA_NUM_THREADS=2) == "0"


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="no process groups on this system")
def test_a_process_killed_half_way_harms_nobody(python, tmp_path):
    for seconds in (0.5, 1, 1.5):
        process = python.start(PARALLEL, NUMBA_CACHE_DIR=tmp_path, NUMBA_NUM_THREADS=2)
        time.sleep(seconds)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    python(PARALLEL, NUMBA_CACHE_DIR=tmp_path, NUMBA_NUM_THREADS=2)
    assert python(PARALLEL, NUMBA_CACHE_DIR=tmp_path, NUMBA_NUM_THREADS=2) == "0"
