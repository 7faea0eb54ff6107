import json

import numpy as np
import pytest


def test_a_network_trains_the_same_in_both_precisions():
    """Twenty steps: at first rounding errors alone lie between them, later all that these have grown into.

    With weights and inputs of 8 bits the first losses are 5e-4 apart already.
    """
    import precision

    runs = precision.curves(20, 32, [1])
    highest, high = (np.array(runs[f"{name}, 1 thread"][:-1]) for name in ("highest", "high"))
    assert high[-5:].mean() < high[:5].mean() - 0.2
    assert (high != highest).any()
    np.testing.assert_allclose(high[:3], highest[:3], atol=5e-5)  # each step multiplies the difference
    assert np.sqrt(np.mean((high - highest) ** 2)) < 0.02


def test_batches_come_again_and_can_be_learnt():
    import precision

    first, again = precision.Data(), precision.Data()
    for _ in range(2):
        x, labels = first.batch(64)
        np.testing.assert_array_equal(x, again.batch(64)[0])
    assert x.shape == (64, 3, 32, 32)
    assert x.dtype == np.float32
    assert set(labels) <= set(range(10))
    assert not np.array_equal(x, first.batch(64)[0])


def test_the_tables(tmp_path, monkeypatch, capsys):
    import precision

    runs = {"highest, 1 thread": [2.0] * 20 + [1.0], "high, 1 thread": [2.5] * 20 + [1.25]}
    monkeypatch.setattr(precision, "curves", lambda steps, batch, threads: runs)
    out = tmp_path / "precision.json"
    precision.main(["--steps", "20", "--out", str(out)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["1", "-", "2", "2.0000", "2.5000"]
    assert lines[11].split() == ["new", "images", "1.0000", "1.2500"]
    assert lines[14].split()[-5:] == ["5.0e-01"] * 4 + ["2.5e-01"]
    assert json.loads(out.read_text(encoding="utf-8"))["losses"] == runs


@pytest.mark.parametrize("arguments", [["--steps", "few"], ["--nonsense"]])
def test_bad_arguments(arguments, capsys):
    import precision

    with pytest.raises(SystemExit):
        precision.main(arguments)
    assert arguments[0] in capsys.readouterr().err
