"""Compiling ahead: everything is found, nothing twice, and it goes on when processes fail."""

import importlib
import pathlib

import pytest

from nnk.kernels import cpu, warming
from nnk.kernels.cpu import _cache, _driver, _warm

FEW = ("activation._relu_blocks", "elementwise._add_blocks", "_driver._serial")


@pytest.fixture
def few(monkeypatch, tmp_path):
    """An empty cache, three functions to fill it with, and as many processes."""
    natives = [native for native in _warm.every() if native.name in FEW]
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(_warm, "every", lambda: natives)
    monkeypatch.setattr(_warm, "get_num_threads", lambda: 2)
    _cache._store.places.cache_clear()
    yield {name: tmp_path / _cache.folder().name / name for name in FEW}
    _cache._store.places.cache_clear()


def test_every_kernel_of_every_file_is_known():
    known = {native.name for native in _warm.every()}
    assert {"_driver._serial", "_driver._parallel"} <= known
    for path in pathlib.Path(cpu.__file__).parent.glob("[!_]*.py"):
        module = importlib.import_module(f"{cpu.__name__}.{path.stem}")
        assert {value.native.name for value in vars(module).values() if isinstance(value, _driver.Job)} <= known


def test_names_are_all_different():
    names = [native.name for native in _warm.every()]
    assert len(names) == len(set(names)) > 20


def test_kernels_of_other_files_are_none_of_its_business():
    @_driver.job()
    def elsewhere(first, last, thread, a):
        pass

    assert elsewhere.native not in _warm.every()


def test_what_is_missing_is_compiled_in_processes(few, monkeypatch):
    monkeypatch.setattr("nnk.kernels.cpu._compile.Native.prepare", None)  # not here
    heard = []
    _warm.warm(heard.append)
    assert sorted(heard) == sorted(FEW)
    assert all(path.stat().st_size > 500 for path in few.values())
    _warm.warm(heard.append)
    assert len(heard) == len(FEW)


def test_only_what_is_missing_or_damaged_is_compiled(few):
    _warm.warm(lambda name: None)
    few["_driver._serial"].unlink()
    few["elementwise._add_blocks"].write_bytes(b"?")
    heard = []
    _warm.warm(heard.append)
    assert sorted(heard) == ["_driver._serial", "elementwise._add_blocks"]


@pytest.mark.parametrize("failure", [OSError("no semaphores here"), warming.BrokenProcessPool("killed")])
def test_without_processes_it_takes_longer(failure, few, monkeypatch):
    def fail(prepare, names, processes):
        _warm._prepare(names[0])
        yield names[0]
        raise failure

    monkeypatch.setattr(warming, "in_processes", fail)
    heard = []
    _warm.warm(heard.append)
    assert sorted(heard) == sorted(FEW)
    assert all(path.exists() for path in few.values())


def test_a_kernel_that_does_not_compile_is_an_error(few, monkeypatch):
    monkeypatch.setattr(_warm, "missing", lambda: [_driver.job()(lambda: None).native] * 2)
    with pytest.raises(TypeError, match="takes 0 arguments"):
        _warm.warm(lambda name: None)
