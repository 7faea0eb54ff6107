"""`nnk train --device cuda`, on a stand-in for CuPy."""

import numpy as np
import pytest

import nnk.cli
from nnk import data
from nnk.data import ArrayDataset


@pytest.fixture(autouse=True)
def toy_data(monkeypatch, tmp_path):
    def load():
        rng = np.random.default_rng(0)
        images = rng.normal(size=(70, 1, 8, 8)).astype(np.float32)
        return ArrayDataset(images[:50], np.arange(50) % 10), ArrayDataset(images[50:], np.arange(20) % 10)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(data.registry.LOADERS, "digits", load)


FAST = ["--batch-size", "10", "--model", "lenet", "--augment", "crop,flip", "--out", "run"]


def test_a_run_is_that_of_the_cpu_and_goes_on_where_it_was(cupy, capsys, monkeypatch):
    assert nnk.cli.main(["train", "--device", "cuda", "--epochs", "2", *FAST]) == 0
    there = capsys.readouterr().out.splitlines()
    assert there[2].endswith("run: 2 epochs; on the GPU")
    assert nnk.cli.main(["train", "--resume", "--out", "run"]) == 0
    assert capsys.readouterr().out.splitlines()[2].endswith("2 of them done; on the GPU")
    assert nnk.cli.main(["train", "--device", "cpu", "--epochs", "2", *FAST[:-1], "other"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == there[-1]
    ours, theirs = (nnk.load(f"{folder}/model.safetensors") for folder in ("run", "other"))
    for name in ours:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-3, atol=1e-5)
