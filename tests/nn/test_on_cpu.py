"""Every module in float32 on the CPU kernels against itself in float64 on the reference."""

import copy

import numpy as np
import pytest

import nnk
from nnk import nn

MODULES = [
    (nn.ReLU(), (2, 3, 4, 5)),
    (nn.ReLU(), ()),
    (nn.LeakyReLU(0.1), (2, 3)),
    (nn.ReLU6(), (2, 3, 4)),
    (nn.Hardsigmoid(), (2, 3)),
    (nn.Hardswish(), (2, 3, 4, 5)),
    (nn.Sigmoid(), (7,)),
    (nn.ELU(0.5), (2, 3)),
    (nn.SELU(), (2, 3, 4, 5)),
    (nn.GELU(), (2, 3, 4)),
    (nn.GELU("tanh"), (2, 3)),
    (nn.GELU("sigmoid"), (7,)),
    (nn.SiLU(), (2, 3, 4, 5)),
    (nn.Mish(), (2, 3, 4)),
    (nn.Softplus(2.0, 1.0), (2, 3)),
    (nn.Tanh(), (2, 3, 4)),
    (nn.PReLU(), ()),
    (nn.PReLU(), (2, 3, 4)),
    (nn.PReLU(3), (2, 3, 4, 5)),
    (nn.Swish(1.5, learnable=True), (2, 3, 4, 5)),
    (nn.Maxout(3, 4, 2), (2, 5, 3)),
    (nn.Maxout2d(3, 4, 3, 2, padding=1), (2, 3, 6, 7)),
    (nn.Softmax(1), (2, 3, 4, 5)),
    (nn.Softmax(-1, temperature=2.0), (7,)),
    (nn.LogSoftmax(0), (2, 3, 4)),
    (nn.Dropout(0.3), (2, 3, 4, 5)),
    (nn.Conv2d(3, 4, 3, padding=1), (2, 3, 6, 7)),
    (nn.Conv2d(3, 4, 3, stride=2), (3, 6, 7)),
    (nn.Conv2d(4, 4, 3, padding="same", groups=4, bias=False), (2, 4, 6, 7)),
    (nn.Conv2d(4, 6, (2, 4), padding="same"), (2, 4, 6, 7)),
    (nn.MaxPool2d(3, 2, 1), (2, 3, 7, 6)),
    (nn.AvgPool2d(3, 2, 1, ceil_mode=True), (2, 3, 8, 6)),
    (nn.AdaptiveAvgPool2d((2, 3)), (2, 3, 5, 7)),
    (nn.BatchNorm2d(3), (2, 3, 4, 5)),
    (nn.BatchNorm2d(3, affine=False).eval(), (2, 3, 4, 5)),
    (nn.BatchNorm1d(3, bias=False), (6, 3)),
    (nn.BatchNorm1d(3), (4, 3, 5)),
    (nn.GroupNorm(2, 6), (2, 6, 4, 5)),
    (nn.GroupNorm(3, 6, affine=False), (4, 6)),
    (nn.LayerNorm(6), (3, 5, 6)),
    (nn.LayerNorm((3, 4, 5), bias=False), (2, 3, 4, 5)),
    (nn.InstanceNorm2d(3), (3, 4, 5)),
    (nn.InstanceNorm2d(3, affine=True, track_running_stats=True), (2, 3, 4, 5)),
    (nn.InstanceNorm2d(3, track_running_stats=True).eval(), (2, 3, 4, 5)),
    (nn.BatchInstanceNorm2d(3), (2, 3, 4, 5)),
    (nn.Linear(3, 4), (5, 3)),
    (nn.Linear(3, 4, bias=False), (2, 5, 3)),
    (nn.Residual(nn.Conv2d(3, 3, 1)), (2, 3, 4, 5)),
    (nn.Concat(nn.ReLU(), nn.Conv2d(3, 3, 1)), (2, 3, 4, 5)),
    (nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(36, 2)), (3, 2, 5, 6)),
]


def close(ours, expected):
    np.testing.assert_allclose(ours, expected, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("order", ["C", "channels last", "gaps", "reversed", "broadcast"])
@pytest.mark.parametrize(("module", "shape"), MODULES, ids=lambda value: repr(value).partition("\n")[0])
def test_as_on_the_reference(module, shape, order):
    rng = np.random.default_rng(0)
    module = copy.deepcopy(module)
    twin = copy.deepcopy(module).double()
    if order == "channels last" and len(shape) == 4:
        x = np.asarray(rng.standard_normal((shape[0], *shape[2:], shape[1])), np.float32).transpose(0, 3, 1, 2)
    elif order == "gaps":
        x = np.asarray(rng.standard_normal((*shape, 2)), np.float32)[..., 0]
    else:
        x = np.asarray(rng.standard_normal(shape), np.float32)
    if order == "reversed":
        x = np.flip(x)
    elif order == "broadcast" and len(shape) > 1:
        x = np.broadcast_to(x[:1], shape)

    nnk.manual_seed(0)
    y = module(x)
    dy = np.asarray(rng.standard_normal(np.shape(y)), np.float32)
    dx = module.backward(dy)
    assert y.dtype == dx.dtype == np.float32
    nnk.manual_seed(0)
    with nnk.use_backend("reference"):
        close(y, twin(x.astype(np.float64)))
        close(dx, twin.backward(dy.astype(np.float64)))
    for ours, expected in zip(module.parameters(), twin.parameters()):
        close(ours.grad, expected.grad)
        assert ours.grad.flags.c_contiguous
    for ours, expected in zip(module.buffers(), twin.buffers()):
        close(ours, expected)


@pytest.mark.parametrize(("module", "shape"), [m for m in MODULES if len(m[1]) == 4], ids=repr)
def test_images_leave_in_channels_last_memory(module, shape):
    x = np.zeros(shape, np.float32).transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2)  # only ReLU keeps what comes
    y = copy.deepcopy(module)(x)
    if y.ndim == 4:
        assert y.transpose(0, 2, 3, 1).flags.c_contiguous


@pytest.mark.parametrize(("module", "shape"), [m for m in MODULES if len(m[1]) > 1], ids=repr)
def test_an_empty_batch(module, shape):
    if len(shape) == 3 and isinstance(module, (nn.Conv2d, nn.InstanceNorm2d)):
        pytest.skip("one image has no batch")
    module = copy.deepcopy(module)
    y = module(np.zeros((0, *shape[1:]), np.float32))
    assert module.backward(np.zeros(y.shape, np.float32)).shape == (0, *shape[1:])
    assert all(not parameter.grad.any() for parameter in module.parameters())


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(("shape", "target"), [((6, 4), (6,)), ((4,), ()), ((2, 4, 3, 5), (2, 3, 5))])
def test_cross_entropy(shape, target, reduction):
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape).astype(np.float32)
    labels = rng.integers(0, 4, target)
    weight = rng.uniform(0.5, 2, 4).astype(np.float32)
    criterion = nn.CrossEntropyLoss(weight, ignore_index=1, label_smoothing=0.1, reduction=reduction)
    twin = copy.deepcopy(criterion).double()
    loss, dx = criterion(x, labels), criterion.backward()
    with nnk.use_backend("reference"):
        close(loss, twin(x.astype(np.float64), labels))
        close(dx, twin.backward())
    assert loss.dtype == dx.dtype == np.float32


@pytest.mark.parametrize(
    "make",
    [
        lambda p: nnk.optim.SGD(p, lr=0.1, weight_decay=0.1),
        lambda p: nnk.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
        lambda p: nnk.optim.Adam(p, lr=0.1, weight_decay=0.1),
        lambda p: nnk.optim.AdamW(p, lr=0.1),
    ],
    ids=["SGD", "momentum", "Adam", "AdamW"],
)
def test_optimisers(make):
    rng = np.random.default_rng(0)
    shapes = [(3, 5), (7,), (), (2, 3, 3, 3)]
    ours = [nn.Parameter(np.asarray(rng.standard_normal(shape), np.float32)) for shape in shapes]
    twins = [nn.Parameter(p.data.astype(np.float64)) for p in ours]
    our, twin = make(ours), make(twins)
    for _ in range(5):
        for p, t in zip(ours, twins):
            p.grad = np.asarray(rng.standard_normal(p.shape), np.float32)
            t.grad = p.grad.astype(np.float64)
        our.step()
        with nnk.use_backend("reference"):
            twin.step()
    for p, t in zip(ours, twins):
        close(p.data, t.data)


def test_the_precision_reaches_the_convolution():
    rng = np.random.default_rng(0)
    conv = nn.Conv2d(32, 32, 3, padding=1)
    x = rng.standard_normal((2, 32, 12, 12)).astype(np.float32)
    results = {}
    try:
        for precision in ("high", "highest"):
            nnk.set_precision(precision)
            results[precision] = conv(x)
    finally:
        nnk.set_precision("high")
    assert (results["high"] != results["highest"]).any()
    close(results["high"], results["highest"])


def test_a_model_and_its_input_in_float64_are_refused():
    with pytest.raises(TypeError, match="use_backend"):
        nn.ReLU()(np.zeros(3))


def test_after_the_first_step_no_new_memory_is_asked_for(monkeypatch):
    from nnk.kernels.cpu import _memory

    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Residual(nn.Concat(nn.Conv2d(8, 4, 1), nn.Conv2d(8, 4, 3, padding=1))),
        nn.Dropout(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(128, 10),
    )
    criterion = nn.CrossEntropyLoss()
    labels = np.arange(8)
    optimizer = nnk.optim.Adam(model.parameters())
    x = np.random.default_rng(0).standard_normal((8, 3, 16, 16)).astype(np.float32)

    def step():
        optimizer.zero_grad()
        criterion(model(x), labels)
        model.backward(criterion.backward(), input_grad=False)
        optimizer.step()

    for _ in range(3):
        step()
    taken = []
    original = _memory.np.empty
    monkeypatch.setattr(_memory.np, "empty", lambda *a, **k: taken.append(a) or original(*a, **k))
    step()
    assert not [shape for shape, *_ in taken if np.prod(shape) > 512]
