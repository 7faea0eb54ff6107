import re

import pytest

import nnk.cli
from nnk import backend

NAMES = ("activation._relu_blocks", "elementwise._add_blocks")


@pytest.fixture(autouse=True)
def few(monkeypatch, tmp_path):
    """An empty cache, and two kernels to fill it with."""
    cache, warm = backend.kernels("cpu._cache"), backend.kernels("cpu._warm")
    natives = [native for native in warm.every() if native.name in NAMES]
    monkeypatch.setattr(warm, "every", lambda: natives)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    cache._store.places.cache_clear()
    yield
    cache._store.places.cache_clear()


def test_warmup_compiles_what_is_missing_and_says_where(capsys, tmp_path):
    assert nnk.cli.main(["warmup"]) == 0
    *lines, count, where = capsys.readouterr().out.splitlines()
    assert sorted(line.split()[1] for line in lines) == sorted(NAMES)
    assert [line.split()[0] for line in lines] == ["1/2", "2/2"]
    assert re.fullmatch(r"2 of 2 kernels compiled in \d+\.\d s", count)
    assert re.fullmatch(rf"kept in {re.escape(str(tmp_path / 'cache'))}.cpu-\w+ \(\d\.\d MB\)", where)
    assert nnk.cli.main(["warmup"]) == 0
    assert capsys.readouterr().out.splitlines() == ["all 2 kernels were compiled already", where]


def test_a_terminal_shows_a_bar(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert nnk.cli.main(["warmup"]) == 0
    output = capsys.readouterr().out
    assert "| 0/2 [" in output
    assert "\r" in output
    assert not any(line.startswith("1/2  ") for line in output.splitlines())


def test_clear_deletes_them_all(capsys, tmp_path):
    nnk.cli.main(["warmup"])
    capsys.readouterr()
    assert nnk.cli.main(["warmup", "--clear"]) == 0
    assert re.fullmatch(r"compiled kernels deleted, 0\.\d MB\n", capsys.readouterr().out)
    assert not list((tmp_path / "cache").iterdir())
    assert nnk.cli.main(["warmup", "--clear"]) == 0
    assert capsys.readouterr().out == "there were no compiled kernels\n"


def test_no_place_for_kernels_is_an_error(capsys, monkeypatch):
    monkeypatch.setattr(backend.kernels("cpu._cache"), "folder", lambda: None)
    assert nnk.cli.main(["warmup"]) == 1
    assert "NUMBA_CACHE_DIR" in capsys.readouterr().err
