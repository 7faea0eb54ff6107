"""Packed weights outlive a call, but never the weights that they were made of."""

import gc

import numpy as np
import pytest

from nnk.kernels import cpu
from nnk.kernels.cpu import _kept
from nnk.kernels.cpu._memory import empty_cache


@pytest.fixture(autouse=True)
def nothing_kept():
    _kept.forget()
    yield
    _kept.forget()


def count_builds(monkeypatch):
    """How often panels are really made."""
    built = []
    original = _kept.kept

    def counting(weight, scale, kind, build):
        return original(weight, scale, kind, lambda: built.append(kind) or build())
    monkeypatch.setattr(_kept, "kept", counting)
    return built


SHAPES = {
    "winograd": ((16, 32, 9, 9), (32, 32, 3, 3)),
    "direct": ((2, 24, 9, 9), (40, 24, 3, 3)),
    "first_layer": ((2, 3, 9, 9), (16, 3, 3, 3)),
}


@pytest.mark.parametrize("name", SHAPES)
def test_weights_are_packed_once_and_again_after_any_change(name, monkeypatch):
    x_shape, w_shape = SHAPES[name]
    rng = np.random.default_rng(0)
    x, weight = (rng.standard_normal(shape).astype(np.float32) for shape in (x_shape, w_shape))
    built = count_builds(monkeypatch)
    first = cpu.conv2d(x, weight, keep_packed=True)
    again = cpu.conv2d(x, weight, keep_packed=True)
    assert len(built) == 1
    np.testing.assert_array_equal(first, again)
    for place in (0, weight.size // 2, weight.size - 1):  # one float in place, the smallest change there is
        weight.flat[place] = np.nextafter(weight.flat[place], np.float32(9))
        changed = cpu.conv2d(x, weight, keep_packed=True)
        np.testing.assert_array_equal(changed, cpu.conv2d(x, weight))
    assert len(built) == 4
    weight[...] = -weight
    np.testing.assert_array_equal(cpu.conv2d(x, weight, keep_packed=True), cpu.conv2d(x, weight))


@pytest.mark.parametrize("name", SHAPES)
def test_scaled_weights_are_packed_again_after_any_change_of_scale(name, monkeypatch):
    x_shape, w_shape = SHAPES[name]
    rng = np.random.default_rng(0)
    x, weight, scale = (rng.standard_normal(shape).astype(np.float32) for shape in (x_shape, w_shape, w_shape[:1]))
    built = count_builds(monkeypatch)
    for place in range(len(scale)):
        for _ in range(2):
            got = cpu.conv2d(x, weight, scale=scale, keep_packed=True)
        np.testing.assert_array_equal(got, cpu.conv2d(x, weight, scale=scale))
        scale[place] = np.nextafter(scale[place], np.float32(9))
    assert len(built) == len(scale)
    np.testing.assert_array_equal(cpu.conv2d(x, weight, keep_packed=True), cpu.conv2d(x, weight))
    assert len(built) == len(scale) + 1


def test_both_precisions_are_kept_apart():
    rng = np.random.default_rng(0)
    x, weight = (rng.standard_normal(shape).astype(np.float32) for shape in SHAPES["winograd"])
    for precision in ("high", "highest", "high"):
        kept = cpu.conv2d(x, weight, precision=precision, keep_packed=True)
        np.testing.assert_array_equal(kept, cpu.conv2d(x, weight, precision=precision))


def test_entries_go_with_their_weights_and_with_empty_cache():
    x = np.ones((1, 24, 5, 5), np.float32)
    weight = np.ones((8, 24, 3, 3), np.float32)
    cpu.conv2d(x, weight, keep_packed=True)
    assert len(_kept._entries) == 1
    del weight
    gc.collect()
    assert not _kept._entries
    other = np.ones((8, 24, 3, 3), np.float32)
    cpu.conv2d(x, other, keep_packed=True)
    empty_cache()
    assert not _kept._entries


def test_a_cap_drops_the_oldest(monkeypatch):
    monkeypatch.setattr(_kept, "_CAP", 3 * 1000)
    weights = [np.full(10, i, np.float32) for i in range(5)]
    for weight in weights:
        _kept.kept(weight, None, "panels", lambda: np.zeros(1000, np.float32))
    assert len(_kept._entries) == 3


@pytest.mark.parametrize("size", [1, 3, 16, 63, 64, 65, 257])
def test_every_single_change_changes_the_checksum(size):
    rng = np.random.default_rng(size)
    weight = rng.standard_normal(size).astype(np.float32)
    builds = []
    _kept.kept(weight, None, "panels", lambda: builds.append(0) or np.zeros(1, np.float32))
    for place in range(size):
        weight[place] += 1
        _kept.kept(weight, None, "panels", lambda: builds.append(0) or np.zeros(1, np.float32))
    assert len(builds) == size + 1
