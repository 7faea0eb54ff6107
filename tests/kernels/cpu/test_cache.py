"""Where compiled kernels are kept: no stale code, no stranger's code, no quarrel between processes."""

import os
import pathlib
import shutil
import time

import pytest

from nnk.kernels.cpu import _cache

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
    _cache.folder.cache_clear()
    yield _cache
    _cache.folder.cache_clear()


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
    for flag, value in (("OPT", 1), ("CPU_NAME", "haswell"), ("CPU_FEATURES", "+avx2"), ("BOUNDSCHECK", 1)):
        monkeypatch.setattr(cache.config, flag, value)
        names.append(cache._stamp())
    assert len(set(names)) == len(names)


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
    assert (float(before), compiled) == (pytest.approx(0.76159416), "1")
    assert python(TANH, tmp_path, **environment) == f"{before} 0"
    source = tmp_path / "kernels" / "cpu" / "_math.py"
    text = source.read_text()
    assert "def vtanh(x):" in text
    source.write_text(text.replace("def vtanh(x):", "def vtanh(x):\n    return x * 2.0\n\n\n@njit\ndef _before(x):"))
    assert python(TANH, tmp_path, **environment) == "2.0 1"


# ---------------------------------------------------------------- the place of the folder
def test_numba_cache_dir_wins(cache, monkeypatch, tmp_path):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "mine"))
    assert cache.folder() == tmp_path / "mine" / cache.folder().name
    assert not (tmp_path / "home").exists()


def test_a_relative_folder_stays_where_it_was(cache, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NUMBA_CACHE_DIR", "here")
    path = cache.folder()
    monkeypatch.chdir(tmp_path / "temp")
    with cache.active():
        assert cache.config.CACHE_DIR == str(tmp_path / "here" / path.name)  # noqa: SIM300


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
    cache.folder.cache_clear()
    path = cache.folder()
    assert path == tmp_path / "temp" / f"nnk-{os.getuid()}" / refused.name
    assert path.stat().st_mode & 0o777 == path.parent.stat().st_mode & 0o777 == 0o700


@needs_owners
def test_a_folder_of_somebody_else_is_refused(cache, tmp_path, monkeypatch):
    refused = cache.folder()
    cache.folder.cache_clear()
    owner = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    with pytest.raises(OSError, match="NUMBA_CACHE_DIR"):  # what is made now belongs to the wrong user too
        cache.folder()
    assert refused.is_relative_to(tmp_path / "home")


@pytest.mark.parametrize("obstacle", ["a file", "a place where nothing can be made"])
def test_without_a_home_the_temporary_folder_serves(obstacle, cache, tmp_path, monkeypatch):
    home = tmp_path / "home"
    home.write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(home if obstacle == "a file" else home / "below"))
    path = cache.folder()
    assert path.parent.parent == tmp_path / "temp"
    assert (path / "used").exists()


@needs_owners
def test_without_any_private_folder_the_error_says_what_to_do(cache, tmp_path):
    (tmp_path / "home").write_text("")
    (tmp_path / "temp" / f"nnk-{os.getuid()}").mkdir()
    (tmp_path / "temp" / f"nnk-{os.getuid()}").chmod(0o777)
    with pytest.raises(OSError, match=r"no private folder .* set NUMBA_CACHE_DIR"):
        cache.folder()


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
    cache.folder.cache_clear()
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


def test_numba_gets_its_own_setting_back(cache):
    def setting():
        return cache.config.CACHE_DIR

    def fail_to_compile():
        with cache.active():
            assert setting() == str(cache.folder())
            raise ZeroDivisionError

    before = setting()
    with pytest.raises(ZeroDivisionError):
        fail_to_compile()
    assert setting() == before


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
