import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

pytest.importorskip("hypothesis")
pytest.importorskip("safetensors")

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import save_file

from nnk.train import CheckpointError, new_run_dir, read_checkpoint, read_run, write_checkpoint
from nnk.train.files import drop_leftovers

FLOAT_BITS = st.floats(allow_nan=False) | st.just(float("inf"))
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**200), 2**200)
    | FLOAT_BITS
    | st.text(max_size=5)
    | hnp.arrays(
        st.sampled_from([np.float32, np.float64, np.int64, np.uint8, np.bool_]),
        hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3),
    )
)
KEYS = st.text("abz09 _-/é漢\\", max_size=4)
TREES = st.dictionaries(
    KEYS,
    st.recursive(
        LEAVES,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.lists(inner, max_size=3).map(tuple)
            | st.dictionaries(KEYS, inner, max_size=3)
            | st.dictionaries(st.integers(), inner, max_size=3)
        ),
        max_leaves=8,
    ),
    max_size=4,
)


def assert_same(a, b):
    assert type(a) is type(b)
    if isinstance(a, np.ndarray):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b, strict=True)
    elif isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for x, y in zip(a, b):
            assert_same(x, y)
    else:
        assert a == b


def some_tree():
    rng = np.random.default_rng(0)
    return {
        "model": {"0.weight": rng.random((3, 2, 3, 3), np.float32), "1.count": np.array(7)},
        "optimizer": {"state": {0: {"m": rng.random(50)}}, "param_groups": [{"betas": (0.9, 0.999)}]},
        "random": np.random.default_rng(5).bit_generator.state,
        "history": [{"loss": 0.1 + 0.2}],
    }


@given(TREES)
@settings(deadline=None, max_examples=80)
def test_a_tree_comes_back_exactly(tmp_path_factory, tree):
    path = tmp_path_factory.mktemp("checkpoint") / "c"
    write_checkpoint(path, tree)
    assert_same(read_checkpoint(path), tree)


def test_memory_order_and_nan_survive(tmp_path):
    images = np.random.default_rng(0).random((2, 4, 4, 3), np.float32).transpose(0, 3, 1, 2)
    tree = {"nhwc": images, "reversed": images[::-1, ::2], "nan": float("nan"), "number": np.float64(0.1)}
    write_checkpoint(tmp_path / "c", tree)
    back = read_checkpoint(tmp_path / "c")
    np.testing.assert_array_equal(back["nhwc"], images)
    np.testing.assert_array_equal(back["reversed"], images[::-1, ::2])
    assert np.isnan(back["nan"])
    assert back["number"] == 0.1


def test_the_random_state_of_a_checkpoint_is_the_generators(tmp_path):
    write_checkpoint(tmp_path / "c", some_tree())
    generator = np.random.default_rng()
    generator.bit_generator.state = read_checkpoint(tmp_path / "c")["random"]
    assert generator.random() == np.random.default_rng(5).random()


def test_values_that_no_file_can_hold_are_named(tmp_path):
    with pytest.raises(TypeError, match=r"cannot hold a\.1\.b: set"):
        write_checkpoint(tmp_path / "c", {"a": [1, {"b": {2}}]})
    assert not list(tmp_path.iterdir())


def test_every_truncation_is_an_error(tmp_path):
    write_checkpoint(tmp_path / "whole", some_tree())
    whole = (tmp_path / "whole").read_bytes()
    cut = tmp_path / "cut"
    for length in [*range(40), *range(40, len(whole), 37), len(whole) - 1]:
        cut.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="cut is truncated or damaged"):
            read_checkpoint(cut)


def test_flipped_header_bytes_never_crash(tmp_path):
    write_checkpoint(tmp_path / "whole", some_tree())
    whole = (tmp_path / "whole").read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    damaged = tmp_path / "damaged"
    refused = 0
    for i in range(0, header, 7):
        damaged.write_bytes(whole[:i] + bytes([whole[i] ^ 0x5A]) + whole[i + 1 :])
        try:
            read_checkpoint(damaged)
        except CheckpointError:
            refused += 1
    assert refused > header / 7 / 2  # what is left are letters inside names and numbers


@pytest.mark.parametrize("content", [b"", b"no safetensors at all, but long enough to have a header", b"\xff" * 64])
def test_foreign_files_are_errors(tmp_path, content):
    (tmp_path / "c").write_bytes(content)
    with pytest.raises(CheckpointError, match="truncated or damaged"):
        read_checkpoint(tmp_path / "c")


def test_a_file_of_weights_is_no_checkpoint(tmp_path):
    save_file({"w": np.zeros(3)}, tmp_path / "c")
    with pytest.raises(CheckpointError, match="no checkpoint of nnk"):
        read_checkpoint(tmp_path / "c")


def test_a_newer_format_says_so(tmp_path):
    save_file({}, tmp_path / "c", {"nnk.checkpoint": '{"format": 99, "tree": {}}'})
    with pytest.raises(CheckpointError, match="format 99, this version of nnk reads format 1"):
        read_checkpoint(tmp_path / "c")


def test_a_checkpoint_of_something_else_is_no_run(tmp_path):
    write_checkpoint(tmp_path / "checkpoint.safetensors", some_tree())
    with pytest.raises(CheckpointError, match="is a checkpoint, but not of a run"):
        read_run(tmp_path)


def test_a_missing_file_says_so(tmp_path):
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        read_checkpoint(tmp_path / "c")
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        read_checkpoint(tmp_path)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_file_under_constant_rewriting_is_whole_after_a_kill(tmp_path):
    program = """
        import sys
        import numpy as np
        from nnk.train import write_checkpoint
        n = 0
        while True:
            write_checkpoint(sys.argv[1], {"n": n, "all": np.full(200_000, n)})
            n += 1
            print(n, flush=True)
    """
    path = tmp_path / "c"
    numbers = set()
    for lines in (1, 2, 5):
        writer = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(program), path], stdout=subprocess.PIPE, text=True
        )
        for _ in range(lines):
            writer.stdout.readline()
        os.kill(writer.pid, signal.SIGKILL)
        writer.communicate()
        tree = read_checkpoint(path)
        assert (tree["all"] == tree["n"]).all()
        numbers.add(tree["n"])
    assert max(numbers) >= 4
    (tmp_path / ".c.1.tmp").write_text("left by a killed process")
    drop_leftovers(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["c"]


def test_run_folders_are_numbered(tmp_path):
    assert [new_run_dir(tmp_path / "runs", "a").name for _ in range(3)] == ["a-1", "a-2", "a-3"]
    assert new_run_dir(tmp_path / "runs", "b").name == "b-1"
