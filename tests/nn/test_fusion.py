"""A fused network does what the same network does without fusion, which is off while somebody watches."""

import copy

import numpy as np
import pytest

import nnk
from nnk import backend, nn
from nnk.kernels.reference import batchnorm

C = 3
X = np.random.default_rng(0).standard_normal((4, C, 5, 6))


class Recorder:
    """Kernels that write down their names."""

    def __init__(self, kernels, names):
        self.kernels, self.names = kernels, names

    def __getattr__(self, name):
        self.names.append(name)
        return getattr(self.kernels, name)


@pytest.fixture
def called(monkeypatch):
    """The names of the kernels that modules ask for."""
    names = []
    of = backend.of
    monkeypatch.setattr(backend, "of", lambda *arrays: Recorder(of(*arrays), names))
    return names


def conv(**options):
    return nn.Conv2d(C, C, 3, padding=1, bias=False, **options)


def norm(**options):
    return nn.BatchNorm2d(C, **options)


def relu():
    return nn.ReLU()


seq, res = nn.Sequential, nn.Residual


class Probe(nn.Module):
    """Passes everything on and keeps a list of what happens."""

    def __init__(self, name, events):
        self.name, self.events = name, events

    def forward(self, x):
        self.events.append(self.name)
        return x

    def backward(self, dy):
        self.events.append(self.name)
        return dy


class Fails(nn.Module):
    def forward(self, x):
        raise ZeroDivisionError

    def backward(self, dy):
        raise ZeroDivisionError


class Halves(nn.Module):
    def forward(self, x):
        return x.astype(np.float32)


class Block(nn.Residual):
    """A subclass that changes no method."""

    def __init__(self):
        super().__init__(seq(conv(), norm(), relu(), conv(), norm()))


class LoudNorm(nn.BatchNorm2d):
    def forward(self, x):
        return super().forward(x)


class LoudReLU(nn.ReLU):
    def forward(self, x):
        return super().forward(x)


class Loud:
    def forward(self, x):
        return super().forward(x)


class MixedNorm(Loud, nn.BatchNorm2d):
    pass


class BackwardReLU(nn.ReLU):
    def backward(self, dy):
        return super().backward(dy)


class LoudSequential(nn.Sequential):
    def forward(self, x):
        for module in self:
            x = module(x)
        return x


class SuperSequential(nn.Sequential):
    def forward(self, x):
        return super().forward(x)


def shuffled(model, rng):
    """All parameters and running statistics drawn anew."""
    for name, array in model.state_dict().items():
        if array.ndim:
            array[...] = np.exp(rng.standard_normal(array.shape)) if "var" in name else rng.standard_normal(array.shape)
    return model


def unfused(function, *args):
    with nn.watch(lambda module, output: None):
        return function(*args)


def waiting(model):
    return [len(module._pending) for module in model.modules()]


def by_hand(model, dy):
    """The backward of a Sequential, module by module."""
    for module in reversed(list(model)):
        dy = module.backward(dy)
    return dy


def same(a, b, dtype):
    tolerance = 1e-9 if dtype == np.float64 else 1e-4
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * max(1, np.abs(b).max(initial=0)))
    assert a.dtype == b.dtype == dtype


def compare(model, x=X, steps=2, backward=nn.Sequential.backward):
    """Forward and backward with and without fusion must give the same and leave the same behind."""
    dtype = x.dtype
    twin = copy.deepcopy(model)
    dy = np.random.default_rng(1).standard_normal(x.shape).astype(dtype)
    for _ in range(steps):
        nnk.manual_seed(5)
        y = model(x)
        nnk.manual_seed(5)
        expected = unfused(twin, x)
        same(y, expected, dtype)
        assert waiting(model) == waiting(twin)
        same(backward(model, dy), backward(twin, dy), dtype)
        assert waiting(model) == waiting(twin)
    for (name, ours), (_, theirs) in zip(model.named_parameters(), twin.named_parameters()):
        if theirs.grad is None:
            assert ours.grad is None, name
        else:
            same(ours.grad, theirs.grad, dtype)
    for (name, ours), (_, theirs) in zip(model.named_buffers(), twin.named_buffers()):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6, err_msg=name)
    nnk.manual_seed(5)
    with nnk.no_grad():
        y = model(x)
    nnk.manual_seed(5)
    same(y, unfused(twin, x), dtype)


def shared_relu():
    both = relu()
    return seq(conv(), norm(), both, conv(), norm(), both)


def shared_norm():
    both = norm()
    return seq(both, relu(), conv(), both, nn.Tanh(), both, relu())


FUSED = {
    "plain": (lambda: seq(norm(), relu()), 1),
    "behind a convolution": (lambda: seq(conv(), norm(), relu(), conv(), norm(), relu(), conv()), 2),
    "norm inside": (lambda: seq(seq(conv(), norm()), relu()), 1),
    "relu inside": (lambda: seq(norm(), seq(relu(), conv())), 1),
    "both inside": (lambda: seq(seq(conv(), seq(norm())), seq(seq(relu()), conv())), 1),
    "all inside": (lambda: seq(seq(seq(conv(), norm(), relu()))), 1),
    "one of each": (lambda: seq(seq(norm()), seq(relu(), seq(conv(), norm())), seq(relu())), 2),
    "residual": (lambda: seq(conv(), res(seq(conv(), norm())), relu()), 1),
    "residual of a norm": (lambda: seq(conv(), res(norm()), relu()), 1),
    "residual with a shortcut": (lambda: seq(res(seq(conv(), norm()), seq(conv(), norm())), relu()), 1),
    "residual inside": (lambda: seq(seq(conv(), res(seq(conv(), seq(conv(), norm())))), seq(relu())), 1),
    "residual in a shortcut": (lambda: seq(res(seq(conv(), norm()), seq(res(norm()), relu())), relu()), 2),
    "residual subclass": (lambda: seq(Block(), relu(), Block(), relu()), 4),
    "shared relu": (shared_relu, 2),
    "shared norm": (shared_norm, 2),
    "norm at the end": (lambda: seq(conv(), norm()), 0),
    "identity between": (lambda: seq(conv(), seq(norm(), nn.Identity()), nn.Identity(), seq(nn.Identity(), relu())), 1),
    "something between": (lambda: seq(norm(), nn.Tanh(), relu()), 0),
    "nothing between": (lambda: seq(norm(), seq(), relu()), 0),
    "other activation": (lambda: seq(norm(), nn.LeakyReLU(0.0)), 0),
    "other order": (lambda: seq(relu(), norm()), 0),
    "two sums": (lambda: seq(res(seq(conv(), res(norm()))), relu()), 0),
    "body without a norm": (lambda: seq(res(seq(norm(), nn.Tanh())), relu()), 0),
    "norm of its own kind": (lambda: seq(LoudNorm(C), relu()), 0),
    "norm mixed with something": (lambda: seq(MixedNorm(C), relu()), 0),
    "relu of its own kind": (lambda: seq(norm(), LoudReLU()), 0),
    "relu with a backward of its own": (lambda: seq(norm(), BackwardReLU()), 0),
    "container of its own kind": (lambda: seq(LoudSequential(conv(), norm()), relu()), 0),
    "container of its own kind, inside": (lambda: seq(LoudSequential(norm(), relu())), 0),
    "branches": (lambda: seq(conv(), nn.Concat(norm(), norm()), relu(), nn.Conv2d(2 * C, C, 1)), 0),
}


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize(("build", "pairs"), FUSED.values(), ids=FUSED)
def test_what_is_fused(reference, called, rng, build, pairs, mode):
    model = shuffled(build().double(), rng).train(mode == "train")
    model.backward(unfused(model, X))
    before = {name: called.count(name) for name in called}
    called.clear()
    model.backward(model(X))
    relus, trained = before.get("relu", 0), pairs if mode == "train" else 0
    assert called.count(f"batch_norm_relu_{mode}") == pairs
    assert called.count("relu") == relus - pairs
    assert called.count("batch_norm_relu_train_backward") == trained
    assert called.count("relu_backward") == relus - trained


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize(("build", "pairs"), FUSED.values(), ids=FUSED)
def test_same_results(reference, rng, build, pairs, mode):
    compare(shuffled(build().double(), rng).train(mode == "train"))


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize(("build", "pairs"), FUSED.values(), ids=FUSED)
def test_same_results_on_the_cpu(rng, build, pairs, mode):
    compare(shuffled(build(), rng).train(mode == "train"), X.astype(np.float32))


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize(("build", "pairs"), FUSED.values(), ids=FUSED)
def test_backward_by_hand(reference, rng, build, pairs, mode):
    compare(shuffled(build().double(), rng).train(mode == "train"), backward=by_hand)


def test_gradients(reference, rng):
    model = shuffled(FUSED["residual with a shortcut"][0]().double(), rng)
    assert nnk.testing.gradcheck(seq(model, seq(norm().double(), relu())), X)


OPTIONS = [
    {},
    {"momentum": None, "eps": 1e-2},
    {"affine": False},
    {"bias": False},
    {"track_running_stats": False},
    {"affine": False, "track_running_stats": False},
]


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("shape", [(7, C), (4, C, 5), (4, C, 5, 6)], ids=str)
def test_every_kind_of_norm(reference, rng, shape, options, mode):
    kind = nn.BatchNorm2d if len(shape) == 4 else nn.BatchNorm1d
    model = seq(kind(C, **options), relu(), res(kind(C, **options)), relu(), res(kind(C), nn.Tanh()), relu())
    compare(shuffled(model.double(), rng).train(mode == "train"), rng.standard_normal(shape), steps=3)


def test_frozen_statistics_in_a_network_that_trains(reference, rng):
    compare(shuffled(seq(conv(), norm().eval(), relu(), res(seq(conv(), norm().eval())), relu()).double(), rng))


def test_frozen_parameters(reference, rng):
    model = shuffled(seq(norm(), relu(), res(seq(conv(), norm())), relu()).double(), rng)
    model[0].requires_grad_(False)
    model[2].body[1].bias.requires_grad = False
    compare(model)
    assert model[0].weight.grad is None
    assert model[2].body[1].weight.grad is not None


@pytest.mark.parametrize("name", ["plain", "residual of a norm", "residual with a shortcut", "both inside"])
def test_no_gradient_to_the_input(reference, rng, name):
    model = shuffled(FUSED[name][0]().double(), rng)
    twin = copy.deepcopy(model)
    y = model(X)
    assert model.backward(y, input_grad=False) is None
    unfused(twin, X)
    twin.backward(y)
    for ours, theirs in zip(model.parameters(), twin.parameters()):
        same(ours.grad, theirs.grad, np.float64)
    assert not any(waiting(model))


# ------------------------------------------------------------------------------------------------ random networks


def grown(rng, depth, leaves):
    """A random module that keeps shapes; some modules occur in several places."""
    kind = rng.choice(["norm", "relu", "relu", "conv", "other", "again", "sequential", "residual"])
    if kind == "again" and leaves:
        return leaves[rng.integers(len(leaves))]
    if kind == "sequential" and depth:
        return seq(*(grown(rng, depth - 1, leaves) for _ in range(rng.integers(0, 5))))
    if kind == "residual" and depth:
        body = seq(*(grown(rng, depth - 1, leaves) for _ in range(rng.integers(0, 3))), norm())
        leaves.append(body[-1])
        return res(body, grown(rng, depth - 1, leaves) if rng.random() < 0.5 else None)
    leaf = {"norm": norm, "relu": relu, "conv": conv}.get(kind, lambda: rng.choice([nn.Tanh(), nn.Dropout(0.3)]))()
    leaves.append(leaf)
    return leaf


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("seed", range(60))
def test_random_networks(reference, seed, mode):
    rng = np.random.default_rng(seed)
    leaves = []
    model = seq(*(grown(rng, 3, leaves) for _ in range(8))).double()
    compare(shuffled(model, rng).train(mode == "train"), backward=by_hand if seed % 3 == 0 else nn.Sequential.backward)


@pytest.mark.parametrize("seed", range(20))
def test_random_networks_on_the_cpu(seed):
    rng = np.random.default_rng(100 + seed)
    leaves = []
    compare(shuffled(seq(*(grown(rng, 3, leaves) for _ in range(4))), rng), X.astype(np.float32), steps=1)


# ------------------------------------------------------------------------------------------------ twice, order, errors


def test_order_of_calls(reference):
    events = []
    model = seq(res(seq(Probe("first", events), norm()), Probe("shortcut", events)), relu()).double()
    y = model(X)
    assert events == ["first", "shortcut"]
    model.backward(y)
    assert events == ["first", "shortcut", "shortcut", "first"]


def test_parts_of_a_block_go_back_by_hand_in_any_order(reference, rng):
    model = shuffled(seq(res(seq(conv(), norm()), conv()), relu()).double(), rng)
    block, rectified = model
    y = model(X)
    expected = model.backward(y)
    model(X)
    dy = rectified.backward(y)
    same(block.body.backward(dy) + block.shortcut.backward(dy), expected, np.float64)


def test_a_norm_that_the_shortcut_uses_too(reference, called, rng):
    both = norm(momentum=0.5)
    model = shuffled(seq(res(seq(conv(), both), seq(both)), relu()).double(), rng)
    compare(model)
    assert "batch_norm_relu_train" not in called


def test_a_convolution_that_body_and_shortcut_share(reference, called, rng):
    both = conv()
    compare(shuffled(seq(res(seq(both, norm()), seq(both, nn.Tanh())), relu()).double(), rng))
    assert "batch_norm_relu_train" in called


@pytest.mark.parametrize("mode", [True, False])
def test_a_block_used_twice(reference, rng, mode):
    block = seq(res(seq(conv(), norm())), relu())
    compare(shuffled(seq(block, nn.Tanh(), block).double(), rng).train(mode))


@pytest.mark.parametrize(
    ("build", "error"),
    [
        pytest.param(lambda: seq(res(norm(), seq(conv(), Fails())), relu()), ZeroDivisionError, id="shortcut"),
        pytest.param(lambda: seq(norm(), relu(), res(seq(Fails(), norm())), relu()), ZeroDivisionError, id="body"),
        pytest.param(lambda: seq(res(norm(), nn.MaxPool2d(2)), relu()), ValueError, id="shapes"),
        pytest.param(lambda: seq(norm(), relu(), res(nn.BatchNorm2d(C + 1)), relu()), ValueError, id="channels"),
    ],
)
def test_a_forward_that_raises_leaves_every_stack_as_it_was(reference, build, error):
    model = build().double()
    with pytest.raises(error):
        model(X)
    assert not any(waiting(model))
    with pytest.raises(error), nnk.no_grad():
        model(X)


def test_a_sum_of_different_shapes_or_dtypes(reference):
    with pytest.raises(ValueError, match=r"body\(x\) has shape \(4, 3, 5, 6\), shortcut\(x\) \(4, 3, 2, 3\)"):
        seq(res(norm(), nn.MaxPool2d(2)), relu()).double()(X)

    with pytest.raises(TypeError, match="float32"):
        seq(res(norm(), Halves()), relu()).double()(X)


def test_a_backward_that_fails_halfway_drops_the_rest(reference):
    class FailsGoingBack(nn.Identity):
        def backward(self, dy):
            raise ZeroDivisionError

    for body, shortcut in [(FailsGoingBack(), conv()), (conv(), FailsGoingBack())]:
        model = seq(conv(), res(seq(body, norm()), shortcut), relu()).double()
        y = model(X)
        with pytest.raises(ZeroDivisionError):
            model.backward(y)
        assert not any(waiting(model))


def test_a_network_changed_after_its_forward(reference, rng):
    model = shuffled(seq(conv(), norm(), relu()).double(), rng)
    twin = copy.deepcopy(model)
    y = model(X)
    unfused(twin, X)
    model.eval()
    model.append(nn.Tanh())
    same(model.backward(y), twin.backward(y), np.float64)
    model[1] = nn.Identity()
    compare(model)


def test_a_container_with_a_forward_of_its_own(reference, rng):
    compare(shuffled(LoudSequential(conv(), norm(), relu()).double(), rng))
    compare(shuffled(SuperSequential(conv(), norm(), relu()).double(), rng))
    compare(shuffled(seq(SuperSequential(conv(), norm(), relu(), norm()), relu()).double(), rng))


# ------------------------------------------------------------------------------------------------ inference


class LoudConv(nn.Conv2d):
    def forward(self, x):
        return super().forward(x)


def shared_conv():
    both = conv()
    return seq(both, norm(), both, norm(), relu(), both, relu())


# A network in eval mode, and how many batch norms, sums and ReLUs are left to kernels of their own under no_grad.
FOLDED = {
    "norm": (lambda: seq(conv(), norm()), 0),
    "relu": (lambda: seq(conv(), relu()), 0),
    "norm and relu": (lambda: seq(conv(), norm(), relu(), nn.Conv2d(C, C, 1), norm(), relu()), 0),
    "bias": (lambda: seq(nn.Conv2d(C, C, 1), norm(bias=False), relu()), 0),
    "depthwise": (lambda: seq(nn.Conv2d(C, C, 3, padding=1, groups=C), norm(affine=False), relu()), 0),
    "identities between": (lambda: seq(conv(), nn.Identity(), norm(), nn.Identity(), relu()), 0),
    "relu inside": (lambda: seq(conv(), norm(), seq(relu(), conv())), 0),
    "relu outside": (lambda: seq(seq(conv(), norm()), relu()), 0),
    "relu outside, no norm": (lambda: seq(seq(conv()), relu()), 0),
    "shared conv": (shared_conv, 0),
    "shared norm": (shared_norm, 2),
    "residual": (lambda: seq(res(seq(conv(), norm(), relu(), conv(), norm())), relu()), 0),
    "residual without relu": (lambda: seq(res(seq(conv(), norm(), relu(), conv(), norm()))), 1),
    "shortcut": (lambda: seq(res(seq(conv(), norm()), seq(conv(), norm())), relu()), 0),
    "residual inside": (lambda: seq(seq(conv(), res(seq(conv(), seq(conv(), norm())))), seq(relu())), 0),
    "residual, no norm": (lambda: seq(res(seq(conv(), relu(), conv(), nn.Identity())), nn.Identity(), relu()), 0),
    "residual of other statistics": (lambda: seq(res(seq(conv(), norm(track_running_stats=False))), relu()), 1),
    "shortcut with its own norm": (lambda: seq(res(seq(conv(), norm()), norm()), relu()), 1),
    "two norms": (lambda: seq(conv(), norm(), norm(), relu()), 1),
    "norm before": (lambda: seq(norm(), relu(), conv()), 1),
    "other activation": (lambda: seq(conv(), norm(), nn.LeakyReLU(0.0)), 1),
    "batch statistics": (lambda: seq(conv(), norm(track_running_stats=False), relu()), 1),
    "conv of its own kind": (lambda: seq(LoudConv(C, C, 1), norm(), relu()), 1),
    "norm of its own kind": (lambda: seq(conv(), LoudNorm(C), relu()), 2),
    "relu of its own kind": (lambda: seq(conv(), norm(), LoudReLU()), 1),
}
NORMS = ("batch_norm_eval", "batch_norm_relu_eval", "batch_norm_train", "batch_norm_relu_train")
WORK = (*NORMS, "relu", "leaky_relu", "add")


@pytest.mark.parametrize(("build", "left"), FOLDED.values(), ids=FOLDED)
def test_convolutions_do_what_is_behind_them(reference, called, rng, build, left):
    model = shuffled(build().double(), rng).eval()
    expected = unfused(model, X)
    called.clear()
    with nnk.no_grad():
        same(model(X), expected, np.float64)
    assert sum(called.count(name) for name in WORK) == left


@pytest.mark.parametrize(("build", "left"), FOLDED.values(), ids=FOLDED)
def test_convolutions_do_what_is_behind_them_on_the_cpu(rng, build, left):
    model, x = shuffled(build(), rng).eval(), X.astype(np.float32)
    expected = unfused(model, x)
    with nnk.no_grad():
        same(model(x), expected, np.float32)


# A network, and how many sums and ReLUs are left to kernels of their own when it trains.
CONVOLVED = {
    "relu": (lambda: seq(conv(), relu()), 0),
    "relu inside": (lambda: seq(seq(conv()), seq(seq(relu()), conv())), 0),
    "identities between": (lambda: seq(seq(conv(), nn.Identity()), nn.Identity(), relu()), 0),
    "sum": (lambda: seq(res(seq(norm(), relu(), conv()))), 0),
    "sum inside": (lambda: seq(res(seq(conv(), seq(nn.Tanh(), nn.Conv2d(C, C, 1), nn.Identity())), conv())), 0),
    "sum and relu": (lambda: seq(res(seq(relu(), conv())), relu()), 1),
    "sum, shortcut and relu": (lambda: seq(seq(res(conv(), seq(conv(), norm()))), seq(relu())), 0),
    "two sums": (lambda: seq(res(res(conv())), relu()), 2),
    "sum in a shortcut": (lambda: seq(res(conv(), res(conv())), relu()), 0),
    "other activation": (lambda: seq(conv(), nn.Tanh(), relu()), 1),
    "shared with the shortcut": (lambda: seq(shared_with_shortcut(), relu()), 2),
    "conv of its own kind": (lambda: seq(res(LoudConv(C, C, 1)), relu()), 2),
}


def shared_with_shortcut():
    both = conv()
    return res(seq(nn.Tanh(), both), seq(both, nn.Tanh()))


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize(("build", "left"), CONVOLVED.values(), ids=CONVOLVED)
def test_convolutions_add_and_rectify_in_training(reference, called, rng, build, left, mode):
    model = shuffled(build().double(), rng).train(mode == "train")
    y = model(X)
    assert called.count("relu") + called.count("add") == left
    model.backward(y)
    called.clear()
    compare(model)
    compare(model, backward=by_hand)


@pytest.mark.parametrize(("build", "left"), CONVOLVED.values(), ids=CONVOLVED)
def test_convolutions_add_and_rectify_on_the_cpu(rng, build, left):
    compare(shuffled(build(), rng), X.astype(np.float32))


def test_a_sum_for_one_image(reference, rng):
    model = shuffled(seq(res(seq(nn.Conv2d(C, C, 1), relu(), conv())), relu()).double(), rng)
    compare(model, X[0])


@pytest.mark.parametrize("tail", [(), (relu(),)], ids=["sum", "relu"])
def test_a_sum_of_a_convolution_and_other_shapes_or_dtypes(reference, tail):
    with pytest.raises(ValueError, match=r"body\(x\) has shape \(4, 3, 5, 6\), shortcut\(x\) \(4, 3, 2, 3\)"):
        seq(res(conv(), nn.MaxPool2d(2)), *tail).double()(X)
    with pytest.raises(TypeError, match="float32"):
        seq(res(conv(), Halves()), *tail).double()(X)


# A network, and how many of its batch norms get their statistics from the convolution before them.
STATED = {
    "norm": (lambda: seq(conv(), norm()), 1),
    "norm and relu": (lambda: seq(conv(), norm(), relu(), nn.Conv2d(C, C, 1), nn.Identity(), norm(), relu()), 2),
    "residual": (lambda: seq(res(seq(conv(), norm(), relu(), conv(), norm()), seq(conv(), norm())), relu()), 3),
    "momentum": (lambda: seq(conv(), norm(momentum=None, eps=1e-2, affine=False)), 1),
    "shared conv": (lambda: shared_conv()[:-2], 2),
    "shared norm": (shared_norm, 1),
    "something between": (lambda: seq(conv(), nn.Tanh(), norm()), 0),
    "relu between": (lambda: seq(conv(), relu(), norm()), 0),
    "norm first": (lambda: seq(norm(), conv()), 0),
    "frozen statistics": (lambda: seq(conv(), norm().eval(), relu()), 0),
    "conv of its own kind": (lambda: seq(LoudConv(C, C, 1), norm()), 0),
    "norm of its own kind": (lambda: seq(conv(), LoudNorm(C)), 0),
}


@pytest.mark.parametrize(("build", "count"), STATED.values(), ids=STATED)
def test_norms_take_the_statistics_of_convolutions(reference, monkeypatch, rng, build, count):
    model = shuffled(build().double(), rng)
    compare(model)
    taken = []
    counted = batchnorm.statistics_of
    monkeypatch.setattr(batchnorm, "statistics_of", lambda x: taken.append(x.shape) or counted(x))
    unfused(model, X)
    before = len(taken)
    model(X)
    assert len(taken) - before == before - count


def test_norms_without_running_statistics_take_those_of_convolutions_in_inference(reference, monkeypatch):
    model = seq(conv(), norm(track_running_stats=False), relu()).double().eval()
    expected = unfused(model, X)
    monkeypatch.delattr(batchnorm, "statistics_of")
    same(model(X), expected, np.float64)
    with nnk.no_grad():
        same(model(X), expected, np.float64)


def test_statistics_of_a_large_mean(rng):
    model = seq(nn.Conv2d(C, C, 1), norm())
    model[0].bias.data[...] = 1e4
    compare(model, X.astype(np.float32), steps=1)


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_a_norm_of_sequences_behind_one_image(reference, rng, mode):
    """Its channels are the image's rows: here as many as filters."""
    model = shuffled(seq(nn.Conv2d(C, 5, 1), nn.BatchNorm1d(5)).double(), rng)
    getattr(model, mode)()
    alone = copy.deepcopy(model)
    with nnk.no_grad():
        same(model(X[0]), alone[1](alone[0](X[0])), np.float64)


def test_what_is_saved_for_backward_is_made(reference, called):
    model = seq(conv(), norm(), relu()).double().eval()
    model(X)
    assert called.count("batch_norm_relu_eval") == 1


def test_a_norm_in_training_mode_does_its_own_work(reference, called):
    model = seq(conv(), norm(), relu()).double()
    with nnk.no_grad():
        model(X)
    assert called.count("batch_norm_relu_train") == 1
    assert model[1].num_batches_tracked == 1


@pytest.mark.parametrize("name", ["0.weight", "1.weight", "1.bias", "1.running_mean", "1.running_var"])
def test_every_change_is_seen_by_the_next_forward(rng, name):
    model = shuffled(seq(nn.Conv2d(C, 32, 3, bias=False), nn.BatchNorm2d(32), relu()), rng).eval()
    x = X.astype(np.float32)
    with nnk.no_grad():
        before = model(x)
        model.state_dict()[name][3] += 0.5
        after = model(x)
    assert (np.abs(after - before).max(axis=(0, 2, 3)) > 1e-4).tolist() == [i == 3 for i in range(32)]
    same(after, unfused(model, x), np.float32)


@pytest.mark.parametrize(
    ("build", "shape", "error", "message"),
    [
        (lambda: seq(conv(), nn.BatchNorm2d(C + 1), relu()), (2, C, 5, 5), ValueError, "num_features is 4"),
        (lambda: seq(conv(), nn.BatchNorm1d(C), relu()), (2, C, 5, 5), ValueError, "BatchNorm1d"),
        (lambda: seq(conv(), norm(), relu()), (C, 5, 5), ValueError, "BatchNorm2d"),
        (lambda: seq(conv(), norm().float(), relu()), (2, C, 5, 5), TypeError, "float32"),
    ],
    ids=["channels", "axes", "unbatched", "dtype"],
)
def test_errors_are_those_of_the_modules(reference, build, shape, error, message):
    model = build().double().eval()
    if error is TypeError:
        model[1].float()
    for mode in (nnk.no_grad(), nn.watch(lambda module, output: None)):
        with pytest.raises(error, match=message), mode:
            model(np.zeros(shape))


# ------------------------------------------------------------------------------------------------ inspection


def test_watch_sees_what_each_module_makes(reference, rng):
    model = shuffled(seq(conv(), res(seq(conv(), norm())), relu()).double(), rng)
    seen = {}
    with nn.watch(lambda module, output: seen.setdefault(module, output)):
        model(X)
    assert set(seen) == set(model.modules())
    body, block, rectified = (seen[m] for m in (model[1].body, model[1], model[2]))
    np.testing.assert_allclose(body.var(axis=(0, 2, 3)), model[1].body[1].weight.data ** 2, rtol=1e-3)
    assert block.min() < 0
    np.testing.assert_array_equal(np.maximum(block, 0), rectified)


def test_the_first_nonfinite_layer_is_the_norm(reference):
    model = seq(norm(), relu()).double()
    model[0].bias.data[1] = -np.inf
    assert np.isfinite(model(X)).all()
    assert nn.first_nonfinite(model, X) == ("0", model[0])


@pytest.mark.parametrize("index", [0, 1])
def test_a_forward_replaced_on_the_instance_is_called(reference, rng, index):
    model = shuffled(seq(norm(), relu()).double(), rng)
    expected = model(X)
    model.backward(X)
    seen = []
    original = model[index].forward

    def forward(x):
        seen.append(original(x))
        return seen[-1]

    model[index].forward = forward
    same(model(X), expected, np.float64)
    assert len(seen) == 1
    assert (seen[0].min() < 0) == (index == 0)
    model.backward(X)


def test_what_is_saved_is_what_is_saved_without_fusion(reference, rng):
    """Not an activation more but for a bit an element, and the norm's own output is not even made."""
    model = shuffled(seq(conv(), res(seq(conv(), norm())), relu()).double(), rng)
    y = model(X)
    assert model[2]._pending[-1].saved[0] is y
    assert model[1].body[1]._pending[-1].saved[2].keywords["mask"].size == -(-y.size // 8)
