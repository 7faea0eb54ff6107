"""Elementwise losses: operands that repeat themselves, sums that keep their digits and do not depend on threads."""

import importlib

import numpy as np
import pytest

from nnk.kernels import cpu, reference
from nnk.kernels.cpu import _losses

MODULES = ("_losses", "nll")


def test_what_is_walked_flat_and_what_is_a_tile():
    x = np.zeros((4, 6, 30, 30), np.float32).transpose(0, 3, 1, 2)  # memory N, H, W, C: 4 x 6 x 30 pixels, 30 channels
    operands = {
        "x": x,
        "target": np.ones(x.shape, np.float32),
        "weight": np.arange(30, dtype=np.float32).reshape(30, 1, 1),
        "other": 2.0,
        "dy": np.arange(4, dtype=np.float32).reshape(4, 1, 1, 1),
    }
    model, arguments = _losses._walk(operands, x.shape)
    assert model is x
    span = arguments["span"]
    assert span == 4096 // 30 * 30
    assert [arguments[f"{name}_step"] for name in operands] == [4 * span, 4 * span, 0, 0, 4 * span]
    assert arguments["target"].strides == arguments["dy"].strides == x.strides
    assert arguments["weight"].tolist() == list(range(30)) * (span // 30)
    assert set(arguments["other"]) == {2}


def test_patterns_of_several_lengths_share_a_block():
    shapes = {"x": (50, 7, 3), "weight": (3,), "other": (7, 3)}
    operands = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    _, arguments = _losses._walk(operands, (50, 7, 3))
    assert arguments["span"] == 4096 // 21 * 21
    assert arguments["weight"].size == arguments["other"].size == arguments["span"]


def test_a_pattern_longer_than_a_block_is_spread_out():
    weight = np.arange(5000, dtype=np.float32)
    _, arguments = _losses._walk({"x": np.zeros((3, 5000), np.float32), "weight": weight}, (3, 5000))
    assert arguments["weight_step"] == 4 * 4096
    assert (arguments["weight"] == weight).all()


@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "huber_loss"])
def test_a_mean_of_many_keeps_its_digits(name):
    x = np.random.default_rng(0).uniform(0, 2, 3_000_001).astype(np.float32)
    want = getattr(reference, name)(x.astype(np.float64), np.zeros(x.size))
    got = getattr(cpu, name)(x, np.zeros_like(x))
    assert got == pytest.approx(float(want), rel=1.2e-7)


def test_log1p_keeps_small_arguments():
    """-log(1 - p) is p for small p, where 1 - p is 1."""
    p = np.float32([1e-30, 1e-10, 3e-8, 1e-7, 1e-4, 0.5, 1 - 2**-24])
    loss = cpu.binary_cross_entropy(p, np.zeros_like(p), reduction="none")
    np.testing.assert_allclose(loss, -np.log1p(-p.astype(np.float64)), rtol=3e-7)


@pytest.mark.parametrize("threads", [2, 3, 7])
def test_every_number_of_threads_gives_the_same_bits(threads, monkeypatch):
    rng = np.random.default_rng(0)
    x, t, v = (rng.uniform(0.1, 0.9, (5003, 19)).astype(np.float32) for _ in range(3))
    labels = rng.integers(0, 19, 5003)
    one = np.ones((), np.float32)

    def run():
        yield cpu.huber_loss(x, t)
        yield cpu.binary_cross_entropy_with_logits(x, t, v[0], v[1])
        yield from cpu.gaussian_nll_loss_backward(one, x, t, v[:, :1])
        yield cpu.soft_cross_entropy(x, t, v[0])
        yield cpu.soft_cross_entropy_backward(one, x, t, v[0])
        yield cpu.softmax_focal_loss(x, labels)
        yield cpu.softmax_focal_loss_backward(one, x, labels)
        loss, total = cpu.nll_loss(x, labels, v[0])
        yield loss
        yield cpu.nll_loss_backward(one, x, labels, v[0], total)

    def share(n):
        for name in MODULES:
            monkeypatch.setattr(importlib.import_module(f"nnk.kernels.cpu.{name}"), "share", lambda work: n)

    share(1)
    alone = [array.tobytes() for array in run()]
    share(threads)
    assert [array.tobytes() for array in run()] == alone


def test_a_scale_beyond_float32_is_infinite_not_an_error():
    x = np.ones((2, 3), np.float32)
    assert np.isinf(cpu.mse_loss_backward(np.float64(1e300), x, 0 * x)).all()
    assert cpu.mse_loss(x * np.float32(1e30), 0 * x) == np.inf


@pytest.mark.parametrize("classes", [1, 3, 17, 1000, 40_000])
def test_a_row_of_a_soft_gradient_adds_up_to_zero(classes):
    rng = np.random.default_rng(0)
    x, q = rng.standard_normal((5, classes)).astype(np.float32), rng.dirichlet(np.ones(classes), 5).astype(np.float32)
    dx = cpu.soft_cross_entropy_backward(np.ones((), np.float32), x, q, label_smoothing=0.2, reduction="sum")
    assert np.abs(dx.sum(axis=1, dtype=np.float64)).max() < 3e-6


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("lead", [0, 5, 17, 40, 100])
def test_focal_losses_of_a_sure_row_keep_their_digits(lead, gamma):
    x = np.zeros((1, 5), np.float32)
    x[0, 2] = lead
    target, one = np.array([2]), np.ones((), np.float32)
    want = reference.softmax_focal_loss(x.astype(np.float64), target, gamma=gamma)
    assert cpu.softmax_focal_loss(x, target, gamma=gamma) == pytest.approx(float(want), rel=3e-6, abs=1e-37)
    dx = reference.softmax_focal_loss_backward(one, x.astype(np.float64), target, gamma=gamma)
    got = cpu.softmax_focal_loss_backward(one, x, target, gamma=gamma)
    np.testing.assert_allclose(got, dx, rtol=3e-6, atol=1e-37)
