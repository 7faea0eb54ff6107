import os

import numpy as np
import pytest

import nnk
from nnk import nn

pytest.importorskip("safetensors")


def test_round_trip_of_a_model(tmp_path):
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3))
    nnk.save(model.state_dict(), tmp_path / "model.safetensors")
    loaded = nnk.load(str(tmp_path / "model.safetensors"))
    assert loaded["1.num_batches_tracked"].shape == ()
    twin = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3))
    twin.load_state_dict(loaded)
    for key, value in model.state_dict().items():
        np.testing.assert_array_equal(twin.state_dict()[key], value)
        assert loaded[key].dtype == value.dtype
    assert os.listdir(tmp_path) == ["model.safetensors"]


def test_any_memory_order(tmp_path):
    base = np.arange(120, dtype=np.float32).reshape(2, 4, 5, 3)
    arrays = {
        "channels last": base.transpose(0, 3, 1, 2),
        "fortran": np.asfortranarray(base),
        "slice": base[:, ::2, ::-1],
        "empty": base[:0],
        "float64": base.astype(np.float64).T,
    }
    nnk.save(arrays, tmp_path / "a")
    loaded = nnk.load(tmp_path / "a")
    for name, array in arrays.items():
        np.testing.assert_array_equal(loaded[name], array, err_msg=name)


def test_torch_reads_it(tmp_path):
    pytest.importorskip("torch")
    from safetensors.torch import load_file

    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4).transpose(2, 0, 1)
    nnk.save({"a": array}, tmp_path / "a")
    np.testing.assert_array_equal(load_file(tmp_path / "a")["a"].numpy(), array)


@pytest.mark.parametrize("keep", [0, 4, 20, -1])
def test_truncated(tmp_path, keep):
    path = tmp_path / "a"
    nnk.save({"a": np.ones(10)}, path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match="a cannot be read: it is truncated, damaged or no safetensors file"):
        nnk.load(path)


@pytest.mark.parametrize("content", [b"PK\x03\x04 a zip file", b"\xff" * 100, b"{}", b"\x80\x04\x95" + b"x" * 50])
def test_foreign_file(tmp_path, content):
    path = tmp_path / "a"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="cannot be read"):
        nnk.load(path)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        nnk.load(tmp_path / "none")
    with pytest.raises(FileNotFoundError):
        nnk.load(tmp_path)


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a"
    nnk.save({"a": np.ones(3)}, path)

    def fails(*arguments):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(OSError, match="disk full"):
        nnk.save({"a": np.zeros(3)}, path)
    np.testing.assert_array_equal(nnk.load(path)["a"], np.ones(3))
    assert os.listdir(tmp_path) == ["a"]


def test_what_is_no_state_dict(tmp_path):
    with pytest.raises(TypeError, match=r"state_dict is a Linear, .*: pass its state_dict\(\)"):
        nnk.save(nn.Linear(2, 2), tmp_path / "a")
    with pytest.raises(TypeError, match="key 3"):
        nnk.save({3: np.ones(2)}, tmp_path / "a")
    with pytest.raises(TypeError, match="str"):
        nnk.save({"a": "text"}, tmp_path / "a")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name != "posix", reason="files have modes on POSIX systems")
def test_files_follow_the_umask(tmp_path):
    nnk.save({"weight": np.ones(3, np.float32)}, tmp_path / "model.safetensors")
    (tmp_path / "plain").touch()
    assert (tmp_path / "model.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode
