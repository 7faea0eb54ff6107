"""Dropout: the published random words, and a mask that nothing but seed, call and place can change."""

import hashlib
import importlib
import platform

import numpy as np
import pytest
from numba import njit

from nnk.kernels import cpu
from nnk.kernels.cpu._philox import philox
from nnk.kernels.cpu.simd import L, istore_n
from nnk.kernels.reference._philox import philox as reference_philox

module = importlib.import_module("nnk.kernels.cpu.dropout")
DRAW = {"p": 0.3, "seed": 0x0123456789ABCDEF, "call": 0xFEDCBA9876543210}


@njit
def words(out, first, call_low, call_high, seed_low, seed_high):
    for w, word in enumerate(philox(first, call_low, call_high, seed_low, seed_high)):
        istore_n(out, w * L, word, L)


@pytest.mark.parametrize("first", [0, 16, 0x85A308D3243F6A80, 0xFFFFFFF0, 0xFFFFFFFFFFFFFFF0])
@pytest.mark.parametrize("call_and_seed", [
    (0, 0, 0, 0), (0x13198A2E, 0x03707344, 0xA4093822, 0x299F31D0), (0xFFFFFFFF,) * 4,
])
def test_vectors_of_counters_give_the_words_of_each(call_and_seed, first):
    """The reference's generator is tested against the published words."""
    got = np.empty((4, L), np.uint32)
    words(got.ctypes.data, np.int64(np.uint64(first)), *call_and_seed)
    low = np.arange(L, dtype=np.uint32) + np.uint32(first & 0xFFFFFFFF)
    counter = np.stack([low, *(np.full(L, w, np.uint32) for w in (first >> 32, *call_and_seed[:2]))], axis=1)
    assert np.array_equal(got, reference_philox(counter, call_and_seed[2:]).T)


PRINT_MASK = f"""
import hashlib
import numpy as np
from nnk.kernels import cpu
from nnk.kernels.cpu.simd import L
y = cpu.dropout(np.ones(100_003, np.float32), **{DRAW})
print(L, hashlib.sha256(y.tobytes()).hexdigest())
"""


@pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="needs an x86-64 CPU")
@pytest.mark.parametrize(("cpu_name", "lanes"), [("haswell", 8), ("x86-64", 4)])
def test_every_vector_width_gives_the_same_mask(cpu_name, lanes, python, tmp_path):
    mine = hashlib.sha256(cpu.dropout(np.ones(100_003, np.float32), **DRAW).tobytes()).hexdigest()
    got = python(PRINT_MASK, NUMBA_CPU_NAME=cpu_name, NUMBA_CPU_FEATURES="", NUMBA_CACHE_DIR=tmp_path)
    assert got == f"{lanes} {mine}"


@pytest.mark.parametrize("threads", [2, 3, 7])
def test_every_number_of_threads_gives_the_same_mask(threads, monkeypatch):
    x = np.ones(200_001, np.float32)
    monkeypatch.setattr(module, "share", lambda work: 1)
    alone = cpu.dropout(x, **DRAW)
    monkeypatch.setattr(module, "share", lambda work: threads)
    assert np.array_equal(cpu.dropout(x, **DRAW), alone)


def test_the_mask_belongs_to_the_logical_place():
    x = np.random.default_rng(0).standard_normal((3, 17, 5, 7)).astype(np.float32)
    want = cpu.dropout(x, **DRAW)
    for order in ((0, 2, 3, 1), (3, 2, 1, 0), (1, 0, 2, 3)):
        moved = np.ascontiguousarray(x.transpose(order)).transpose(np.argsort(order))
        assert np.array_equal(cpu.dropout(moved, **DRAW), want)
    assert np.array_equal(cpu.dropout(x.repeat(2, axis=3)[..., ::2], **DRAW), want)


@pytest.mark.parametrize("p", [1e-6, 0.1, 0.5, 0.9, 1 - 1e-6])
def test_as_many_are_dropped_as_asked_for(p):
    n = 1_000_000
    y = cpu.dropout(np.ones(n, np.float32), p=p, seed=3, call=4)
    assert abs((y == 0).sum() - n * p) <= 4 * np.sqrt(n * p * (1 - p)) + 1
    assert set(np.unique(y)) <= {np.float32(0), np.float32(1 / (1 - p))}


def test_what_is_dropped_is_zero_even_if_it_was_not_finite():
    x = np.resize(np.float32([np.nan, np.inf, -np.inf]), 999)
    y = cpu.dropout(x, p=0.5, seed=0, call=0)
    assert 400 < (y == 0).sum() < 600
    assert np.array_equal(y[y != 0], x[y != 0], equal_nan=True)
    assert not cpu.dropout(x, p=1.0, seed=0, call=0).any()
