import importlib.util
import re

import pytest

import nnk.cli
from nnk import backend

CUDA = importlib.util.find_spec("numba_cuda") is not None
NAMES = ("activation._relu_blocks", "elementwise._add_blocks")


@pytest.fixture(autouse=True)
def few(monkeypatch, tmp_path):
    """An empty cache, and two kernels to fill it with."""
    cache, warm = backend.kernels("cpu._cache"), backend.kernels("cpu._warm")
    natives = [native for native in warm.every() if native.name in NAMES]
    monkeypatch.setattr(warm, "every", lambda: natives)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    stores = [cache._store]
    if CUDA:
        stores.append(backend.kernels("cuda.launch").store)
    for store in stores:
        store.places.cache_clear()
    yield
    for store in stores:
        store.places.cache_clear()


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


@pytest.fixture
def few_cuda(monkeypatch):
    if not CUDA:
        pytest.skip("numba-cuda is not installed")
    warm = backend.kernels("cuda._warm")
    if backend.kernels("cuda._numba").SIMULATED:
        pytest.skip("the simulator compiles nothing")
    builds = [build for build in warm.every((9, 0), ["float16"]) if build[0].name in ("relu", "tanh")]
    monkeypatch.setattr(warm, "every", lambda *wanted: builds)


@pytest.mark.parametrize("arch", ["sm_90", "9.0"])
def test_kernels_for_a_gpu_that_is_not_there(few_cuda, capsys, tmp_path, arch):
    assert nnk.cli.main(["warmup", "--cuda", arch, "--dtype", "float16"]) == 0
    *lines, count, where = capsys.readouterr().out.splitlines()
    assert sorted(line.split("  ")[1] for line in lines) == [
        "activation.relu float16 sm_90", "activation.tanh float16 sm_90"
    ]  # fmt: skip
    assert count.startswith("2 of 2 kernels compiled")
    files = sorted(path.name for path in (tmp_path / "cache").glob("cuda-*/activation*"))
    assert files == ["activation-relu-float16-sm_90", "activation-tanh-float16-sm_90"]
    assert nnk.cli.main(["warmup", "--cuda", arch, "--dtype", "float16"]) == 0
    assert capsys.readouterr().out.splitlines() == ["all 2 kernels were compiled already", where]


@pytest.mark.skipif(not CUDA, reason="numba-cuda is not installed")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cuda", "hopper"], "--cuda is 'hopper', expected an architecture such as sm_90"),
        (["--dtype", "float16"], "--dtype goes with --cuda"),
        (["--cuda"], "there is no GPU to compile for, name one as in --cuda sm_90: no GPU here"),
    ],
)
def test_what_cannot_be_compiled_is_said(capsys, monkeypatch, arguments, message):
    monkeypatch.setattr(backend, "cuda_problem", lambda: "no GPU here")
    assert nnk.cli.main(["warmup", *arguments]) != 0
    assert message in capsys.readouterr().err
