"""The table of fastest kernels: what is chosen with and without it, how it is kept, how it is measured."""

import json
import threading
import warnings

import numpy as np
import pytest

from nnk.kernels import reference
from nnk.kernels.cuda import _arithmetic, _chooser, _mma_gemm, _tuner, _tuning, launch
from nnk.kernels.cuda._numba import SIMULATED
from nnk.kernels.cuda._tuning import Row, Work
from nnk.kernels.cuda._window import forward_axis

ml_dtypes = pytest.importorskip("ml_dtypes")
pytestmark = pytest.mark.skipif(not SIMULATED, reason="stands on the simulator")

FLOAT32, BFLOAT16 = np.dtype(np.float32), np.dtype(ml_dtypes.bfloat16)
WINDOW = forward_axis(6, 3, 1, 1, 1), forward_axis(5, 3, 1, 1, 1)
WORKS = {
    "product": Work("product", FLOAT32, FLOAT32, 1, (1, 8, 6, 5), (1, 12, 6, 5), WINDOW),
    "wide": Work("product", BFLOAT16, FLOAT32, 2, (1, 16, 6, 5), (1, 24, 6, 5), WINDOW),
    "strict": Work("strict product", FLOAT32, FLOAT32, 1, (1, 8, 6, 5), (1, 12, 6, 5), WINDOW),
    "wgrad": Work("wgrad", FLOAT32, FLOAT32, 1, (1, 7, 6, 5), (12, 7, 3, 3), WINDOW),
    "strict_wgrad": Work("strict wgrad", FLOAT32, FLOAT32, 1, (1, 8, 6, 5), (12, 8, 3, 3), WINDOW),
}
SMALL, LARGE = ("mma", (64, 64, 4)), ("mma", (128, 128, 3))


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """An empty folder for tables, and none in use."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(_chooser, "_tables", {})
    launch.store.places.cache_clear()
    yield tmp_path
    launch.store.places.cache_clear()


def keep(work, best):
    return _tuning.write("simulator", {work: Row(best, 1e-6, _chooser.candidates(work, (8, 0))[0], 2e-6)})


class Clock:
    """Runs nothing: a call takes what `times` says, a round a second."""

    def __init__(self, *times, noise=0.0):
        self.times, self.noise, self.rounds, self.numbers = times, noise, 0, []

    def round(self, calls, number):
        self.rounds += 1
        self.numbers.append(number)
        return [time * (1 + self.noise * (number % 2)) for time, _ in zip(self.times, calls)]

    def now(self):
        return float(self.rounds)


# ---------------------------------------------------------------- the choice
@pytest.mark.parametrize("work", WORKS.values(), ids=WORKS)
def test_cuda_untuned_the_first_candidate_runs(work):
    assert _chooser.choice(work, (8, 0)) == _chooser.candidates(work, (8, 0))[0]


@pytest.mark.parametrize(("capability", "want"), [
    ((7, 5), {"mma 64x64x2"}), ((8, 0), {"mma 64x64x4", "mma 128x64x3", "mma 128x128x3"}),
    ((9, 0), {"mma 64x64x4", "mma 128x64x3", "mma 128x128x3", "wgmma 128x64", "wgmma 128x128", "wgmma 128x256",
              "tma 128x64", "tma 128x128", "tma 128x256"}),
])  # fmt: skip
def test_cuda_candidates_by_card(capability, want):
    work = WORKS["product"]._replace(x=(1, 32, 6, 5), y=(1, 64, 6, 5))
    assert {_tuning.shown(one) for one in _chooser.candidates(work, capability)} == want


def test_cuda_large_products_begin_with_large_tiles():
    window = (forward_axis(64, 3, 1, 1, 1),) * 2
    large = WORKS["product"]._replace(x=(64, 64, 64, 64), y=(64, 128, 64, 64), window=window)
    assert _chooser.candidates(large, (8, 0))[0] == LARGE
    assert _chooser.candidates(large._replace(y=(64, 64, 64, 64)), (8, 0))[0] == ("mma", (128, 64, 3))
    strict = _chooser.candidates(large._replace(kind="strict product"), (8, 0))
    assert strict == tuple((rung, (size, size)) for rung in ("ffma", "winograd") for size in (128, 64))
    assert _chooser.candidates(WORKS["strict"]._replace(y=(1, 9, 6, 5)), (8, 0)) == (("ffma", (64, 64)),)
    wgrad = WORKS["wgrad"]._replace(y=(128, 64, 3, 3), x=(64, 64, 64, 64))
    assert [tile for _, tile in _chooser.candidates(wgrad, (8, 0))] == [(128, 128, 3), (64, 64, 4)]


def test_cuda_the_table_decides_in_whole_operations(cuda_kernels, monkeypatch):
    rng, tiles = np.random.default_rng(0), []
    x, weight = rng.standard_normal((1, 8, 6, 5), np.float32), rng.standard_normal((12, 8, 3, 3), np.float32)
    original = _mma_gemm.convolve
    monkeypatch.setattr(_mma_gemm, "convolve", lambda *a, tile, **k: (tiles.append(tile), original(*a, tile=tile, **k)))
    with _chooser.recording() as seen:
        before = cuda_kernels.conv2d(x, weight, padding=(1, 1), precision="high")
        cuda_kernels.conv2d_dgrad(before, weight, x.shape, padding=(1, 1), precision="high")
        cuda_kernels.conv2d_wgrad(before, x, weight.shape, padding=(1, 1), precision="high")
        cuda_kernels.conv2d(x, weight, padding=(1, 1))
        cuda_kernels.conv2d_wgrad(before, x, weight.shape, padding=(1, 1))
    assert [work.kind for work in seen] == ["product", "product", "wgrad", "strict product", "strict wgrad"]
    assert next(iter(seen)) == WORKS["product"]
    keep(WORKS["product"], LARGE)
    assert cuda_kernels.conv2d(x, weight, padding=(1, 1), precision="high") is not None
    assert tiles[-1] == SMALL[1]  # a table that is written later is for the next process
    _chooser.load(0, anew=True)
    after = cuda_kernels.conv2d(x, weight, padding=(1, 1), precision="high")
    assert tiles[-1] == LARGE[1]
    np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-5)
    assert np.abs(after - reference.conv2d(x, weight, padding=(1, 1))).max() < 0.05
    assert len(seen) == 5  # nobody records any more


def test_cuda_threads_read_the_table_once(monkeypatch):
    reads, read = [], _tuning.read
    monkeypatch.setattr(_tuning, "read", lambda *args: (reads.append(args), read(*args))[1])
    threads = [threading.Thread(target=_chooser.choice, args=(WORKS["wgrad"], (8, 0))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(reads) == 1


# ---------------------------------------------------------------- the file
def test_cuda_a_table_comes_back(cache):
    rows = {work: Row(_chooser.candidates(work, (8, 0))[-1], 1.5e-6, _chooser.candidates(work, (8, 0))[0], 2e-6)
            for work in WORKS.values()}  # fmt: skip
    file = _tuning.write("simulator", rows)
    assert file.parent == launch.store.folder()
    assert file.parent.parent == cache
    assert _chooser.stored(0) == rows
    found = json.loads(file.read_text())
    assert found["device"] == "simulator"
    assert found["rows"][0]["best"] == _tuning.shown(rows[WORKS["product"]].best)
    assert [path.name for path in file.parent.iterdir() if path.name != "used"] == [file.name]
    assert _tuning.clear() == [file]
    assert _chooser.stored(0) == {}
    assert _tuning.clear() == []


def test_cuda_devices_have_tables_of_their_own():
    file = keep(WORKS["product"], LARGE)
    other = _tuning.write("NVIDIA H100 80GB HBM3 (2)", {})
    assert other.name == "tuned-NVIDIA-H100-80GB-HBM3-2.json"
    assert file.exists()


@pytest.mark.parametrize("damage", [
    lambda text: text[: len(text) // 2], lambda text: "", lambda text: "[1, 2]", lambda text: '{"rows": 3}',
    lambda text: text.replace("simulator", "another card"), lambda text: text.replace(launch.store.stamp(), "0" * 16),
    lambda text: text.replace("mma 128x128x3", "tma 128x128"), lambda text: text.replace("mma 128x128x3", "mma"),
    lambda text: text.replace('"product"', '"sum"'), lambda text: text.replace("float32", "float33"),
    lambda text: text.replace('"groups": 1', '"groups": 0'), lambda text: text.replace('"taps"', '"tops"'),
    lambda text: "\udcff",
], ids=range(13))  # fmt: skip
def test_cuda_a_damaged_or_foreign_table_is_ignored_with_a_warning(damage):
    file = keep(WORKS["product"], LARGE)
    file.write_text(damage(file.read_text()), errors="surrogateescape")
    with pytest.warns(UserWarning, match="no table of nnk tune for this device, so it is ignored"):
        assert _chooser.choice(WORKS["product"], (8, 0)) == SMALL
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _chooser.choice(WORKS["product"], (8, 0))


def test_cuda_a_table_that_cannot_be_written_leaves_the_old_one(monkeypatch):
    file = keep(WORKS["product"], LARGE)
    before = file.read_text()

    def full(*args):
        raise OSError("no space left")

    monkeypatch.setattr(_tuning.os, "replace", full)
    with pytest.raises(OSError, match="no space"):
        keep(WORKS["product"], SMALL)
    assert file.read_text() == before
    assert len(list(file.parent.glob("part-*"))) == 0
    monkeypatch.setattr(launch.store, "folder", lambda: None)
    with pytest.raises(OSError, match="NUMBA_CACHE_DIR"):
        keep(WORKS["product"], SMALL)


# ---------------------------------------------------------------- the measurement
def test_cuda_the_fastest_candidate_wins():
    (work, row), = _tuner.tune(_tuner.choices([WORKS["product"]]), clock := Clock(3e-5, 2e-5, 4e-5), 1000)
    found = _chooser.candidates(work, (8, 0))
    assert row == Row(found[1], 2e-5, found[0], 3e-5)
    assert clock.numbers[: _tuner.SETS] == [0, 1]
    assert clock.rounds == _tuner.SETS + _tuner.LEAST_ROUNDS


def test_cuda_the_default_stays_where_nothing_is_clearly_faster():
    ((_, row),) = _tuner.tune(_tuner.choices([WORKS["product"]]), Clock(1e-5, 0.99e-5, 2e-5), 1000)
    assert row.best == row.default == SMALL
    assert row.seconds == row.default_seconds == 1e-5


def test_cuda_noise_asks_for_more_rounds_while_there_is_time():
    list(_tuner.tune(_tuner.choices([WORKS["product"]]), patient := Clock(1, 2, 3, noise=0.1), 1000))
    assert patient.rounds == _tuner.SETS + _tuner.MOST_ROUNDS
    list(_tuner.tune(_tuner.choices([WORKS["product"]]), hurried := Clock(1, 2, 3, noise=0.1), 20))
    assert hurried.rounds == 21


def test_cuda_works_without_a_choice_or_without_time_are_left_out(monkeypatch):
    works = [WORKS["strict"]._replace(y=(1, 9, 6, 5)), WORKS["product"], WORKS["wgrad"]]
    todo = _tuner.choices(works)
    assert list(todo) == works[1:]
    assert [work for work, _ in _tuner.tune(todo, Clock(1, 2, 3), 5)] == [WORKS["product"]]
    monkeypatch.setattr(_arithmetic, "SIMULATED_CAPABILITY", (7, 5))
    assert not _tuner.choices([WORKS["product"]])


@pytest.mark.parametrize("work", WORKS.values(), ids=WORKS)
def test_cuda_all_candidates_give_the_same(work, monkeypatch):
    made = []
    found = _chooser.candidates(work, (8, 0))
    empty_image = _tuner.empty_image
    monkeypatch.setattr(_tuner, "empty_image", lambda *a: (made.append(empty_image(*a)), made[-1])[1])
    monkeypatch.setattr(_tuner, "SETS", 1)
    results = []
    for call in _tuner.calls(work, found).values():
        result = call(0)
        results.append((made[1] if result is None else result).astype(np.float32))
    for result in results:
        assert np.isfinite(result).all()
        np.testing.assert_allclose(result, results[0], rtol=1e-4, atol=1e-4)
    assert results[0].shape == work.y
