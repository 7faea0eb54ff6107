import copy
import inspect

import numpy as np
import pytest

import nnk
from nnk import nn, optim

SHAPES = [(3, 4), (5,), (), (2, 1, 3, 3)]
VARIANTS = [
    ("SGD", {}),
    ("SGD", {"lr": 0.1, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.01}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "maximize": True}),
    ("Adam", {}),
    ("Adam", {"lr": 0.1, "betas": (0.5, 0.8), "eps": 1e-3, "weight_decay": 0.1}),
    ("Adam", {"lr": 0.1, "maximize": True}),
    ("Adam", {"lr": 0.1, "amsgrad": True, "betas": (0.5, 0.6)}),
    ("Adam", {"lr": 0.1, "weight_decay": 0.2, "decoupled_weight_decay": True}),
    ("AdamW", {}),
    ("AdamW", {"lr": 0.1, "betas": (0.5, 0.8), "weight_decay": 0.2, "maximize": True}),
    ("AdamW", {"lr": 0.1, "betas": (0.5, 0.6), "amsgrad": True}),
    ("Adagrad", {}),
    ("Adagrad", {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.5, "eps": 1e-3}),
    ("Adagrad", {"maximize": True}),
    ("Adadelta", {}),
    ("Adadelta", {"lr": 0.5, "rho": 0.7, "eps": 1e-3, "weight_decay": 0.1, "maximize": True}),
    ("RMSprop", {}),
    ("RMSprop", {"centered": True, "alpha": 0.9, "weight_decay": 0.1}),
    ("RMSprop", {"momentum": 0.9, "maximize": True, "eps": 1e-3}),
    ("RMSprop", {"lr": 0.1, "momentum": 0.5, "centered": True}),
]
NAMES = ["SGD", "Adagrad", "Adadelta", "RMSprop", "Adam", "AdamW"]


@pytest.fixture(autouse=True)
def reference():
    with nnk.use_backend("reference"):
        yield


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def parameters(rng):
    return [nn.Parameter(np.asarray(rng.standard_normal(shape))) for shape in SHAPES]


def twins(rng):
    torch = pytest.importorskip("torch")
    ours = parameters(rng)
    return ours, [torch.nn.Parameter(torch.tensor(p.data)) for p in ours]


def give_gradients(rng, ours, theirs=(), skip=()):
    torch = pytest.importorskip("torch") if theirs else None
    for i, parameter in enumerate(ours):
        grad = None if i in skip else np.asarray(rng.standard_normal(parameter.shape))
        parameter.grad = grad
        if theirs:
            theirs[i].grad = None if grad is None else torch.tensor(grad)


def assert_same(ours, theirs):
    for our, their in zip(ours, theirs):
        np.testing.assert_allclose(our.data, their.detach().numpy(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_as_in_torch_over_many_steps(rng, name, options):
    torch = pytest.importorskip("torch")
    ours, theirs = twins(rng)
    our, their = getattr(optim, name)(ours, **options), getattr(torch.optim, name)(theirs, **options)
    for step in range(30):
        # A parameter without a gradient is left out, so that its own count of steps falls behind.
        give_gradients(rng, ours, theirs, skip=(1,) if step % 3 == 0 else ())
        our.step()
        their.step()
        assert_same(ours, theirs)


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_as_in_torch_on_the_cpu(rng, name, options):
    torch = pytest.importorskip("torch")
    ours = [nn.Parameter(p.data.astype(np.float32)) for p in parameters(rng)]
    theirs = [torch.nn.Parameter(torch.tensor(p.data)) for p in ours]
    our, their = getattr(optim, name)(ours, **options), getattr(torch.optim, name)(theirs, **options)
    with nnk.use_backend("cpu"):
        for step in range(25):
            give_gradients(rng, ours, skip=(1,) if step % 3 == 0 else ())
            for p, twin in zip(ours, theirs):
                twin.grad = None if p.grad is None else torch.tensor(p.grad.astype(np.float32))
            our.step()
            their.step()
    for p, twin in zip(ours, theirs):
        np.testing.assert_allclose(p.data, twin.detach().numpy(), rtol=1e-4, atol=1e-5)


def test_options_that_need_another_state_may_be_switched_on_later(rng):
    ours = parameters(rng)
    made = [optim.RMSprop(ours[:2]), optim.Adam(ours[2:])]
    for _ in range(2):
        give_gradients(rng, ours)
        for optimizer in made:
            optimizer.step()
        made[0].param_groups[0] |= {"momentum": 0.9, "centered": True}
        made[1].param_groups[0]["amsgrad"] = True
    assert made[0].state[ours[0]].keys() == {"step", "square_avg", "momentum_buffer", "grad_avg"}
    assert made[1].state[ours[2]].keys() == {"step", "exp_avg", "exp_avg_sq", "max_exp_avg_sq"}


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_state_goes_both_ways(rng, name, options):
    torch = pytest.importorskip("torch")
    ours, theirs = twins(rng)
    our, their = getattr(optim, name)(ours, **options), getattr(torch.optim, name)(theirs, **options)
    for _ in range(3):
        give_gradients(rng, ours, theirs)
        our.step()
        their.step()
    state, expected = our.state_dict(), their.state_dict()
    assert state["param_groups"] == expected["param_groups"]
    assert state["state"].keys() == expected["state"].keys()
    for number, values in expected["state"].items():
        assert state["state"][number].keys() == values.keys()
        for key, value in values.items():
            np.testing.assert_allclose(state["state"][number][key], value.numpy(), rtol=1e-12)

    fresh_ours = [nn.Parameter(p.data.copy()) for p in ours]
    fresh = getattr(optim, name)(fresh_ours, lr=99.0)
    fresh.load_state_dict(expected)
    fresh_theirs = [torch.nn.Parameter(torch.tensor(p.data)) for p in ours]
    back = getattr(torch.optim, name)(fresh_theirs, lr=99.0)
    tensors = {
        number: {key: torch.tensor(value) for key, value in values.items()} for number, values in state["state"].items()
    }
    back.load_state_dict({"state": tensors, "param_groups": state["param_groups"]})
    for _ in range(3):
        give_gradients(rng, fresh_ours, fresh_theirs)
        fresh.step()
        back.step()
        assert_same(fresh_ours, fresh_theirs)


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_a_loaded_run_continues_bit_for_bit(rng, name, options):
    ours = parameters(rng)
    our = getattr(optim, name)(ours, **options)
    give_gradients(rng, ours)
    our.step()
    twin_parameters = copy.deepcopy(ours)
    twin = getattr(optim, name)(twin_parameters)
    twin.load_state_dict(our.state_dict())
    for _ in range(3):
        give_gradients(rng, ours)
        for ours_p, twin_p in zip(ours, twin_parameters):
            twin_p.grad = ours_p.grad
        our.step()
        twin.step()
        for ours_p, twin_p in zip(ours, twin_parameters):
            np.testing.assert_array_equal(ours_p.data, twin_p.data)


@pytest.mark.parametrize("name", NAMES)
def test_arguments_are_torchs(name):
    torch = pytest.importorskip("torch")
    ours, theirs = (
        [(p.name, p.default, p.kind) for p in inspect.signature(getattr(o, name)).parameters.values()]
        for o in (optim, torch.optim)
    )
    assert ours == theirs


def test_groups(rng):
    torch = pytest.importorskip("torch")
    ours, theirs = twins(rng)

    def build(module, p):
        made = module.AdamW([{"params": p[:1], "lr": 0.5}, {"params": iter(p[1:3]), "weight_decay": 0.0}], lr=0.1)
        made.add_param_group({"params": p[3], "betas": (0.1, 0.2)})
        return made

    our, their = build(optim, ours), build(torch.optim, theirs)
    for _ in range(3):
        give_gradients(rng, ours, theirs)
        our.step()
        their.step()
        our.param_groups[0]["lr"] *= 0.5
        their.param_groups[0]["lr"] *= 0.5
        assert_same(ours, theirs)
    assert our.state_dict()["param_groups"] == their.state_dict()["param_groups"]
    assert repr(our) == repr(their)


def test_named_parameters(rng):
    linear = nn.Linear(2, 3)
    made = optim.SGD(linear.named_parameters())
    assert made.param_groups[0]["param_names"] == ["weight", "bias"]
    assert made.param_groups[0]["params"] == [linear.weight, linear.bias]


def test_zero_grad(rng):
    ours = parameters(rng)
    made = optim.SGD(ours)
    give_gradients(rng, ours, skip=(1,))
    made.zero_grad(set_to_none=False)
    assert ours[1].grad is None
    assert not ours[0].grad.any()
    made.zero_grad()
    assert all(p.grad is None for p in ours)


def test_closure(rng):
    ours = parameters(rng)

    def closure():
        give_gradients(rng, ours)
        return 0.25

    before = ours[0].data.copy()
    assert optim.SGD(ours, lr=0.1).step(closure) == 0.25
    assert (ours[0].data != before).all()


def test_any_gradient_of_the_shape(rng):
    parameter, other = (nn.Parameter(np.ones((2, 3))) for _ in range(2))
    grad = rng.standard_normal((3, 2)).astype(np.float32)
    parameter.grad = grad.T
    other.grad = np.ascontiguousarray(grad.T, np.float64)
    optim.SGD([parameter, other], lr=0.1).step()
    np.testing.assert_array_equal(parameter.data, other.data)


def test_data_may_be_replaced(rng):
    parameter = nn.Parameter(np.ones(3))
    made = optim.SGD([parameter], lr=1.0, momentum=0.9)
    for _ in range(2):
        parameter.data = np.zeros(3)
        parameter.grad = np.ones(3)
        made.step()
    np.testing.assert_allclose(parameter.data, [-1.9] * 3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: optim.SGD([]), "params is empty"),
        (lambda p: optim.SGD([p, p]), "twice"),
        (lambda p: optim.SGD([{"params": [p]}, {"params": [p]}]), "twice"),
        (lambda p: optim.SGD([p], lr=-1), "lr is -1"),
        (lambda p: optim.SGD([p], momentum=-1), "momentum is -1"),
        (lambda p: optim.SGD([p], weight_decay=-1), "weight_decay is -1"),
        (lambda p: optim.SGD([p], nesterov=True), "nesterov=True needs momentum"),
        (lambda p: optim.SGD([p], momentum=0.9, dampening=0.1, nesterov=True), "dampening 0"),
        (lambda p: optim.SGD([{"params": [p], "lr": -2}]), "lr is -2"),
        (lambda p: optim.SGD([p], foreach=True), "foreach=True is not supported"),
        (lambda p: optim.Adam([p], betas=(0.9, 1.0)), r"betas is \(0.9, 1.0\)"),
        (lambda p: optim.Adam([p], eps=-1), "eps is -1"),
        (lambda p: optim.Adagrad([p], lr_decay=-1), "lr_decay is -1"),
        (lambda p: optim.Adagrad([p], initial_accumulator_value=-1), "initial_accumulator_value is -1"),
        (lambda p: optim.Adagrad([p], fused=True), "fused=True"),
        (lambda p: optim.Adadelta([p], rho=1.5), r"rho is 1\.5"),
        (lambda p: optim.Adadelta([p], capturable=True), "capturable=True"),
        (lambda p: optim.RMSprop([p], alpha=-1), "alpha is -1"),
        (lambda p: optim.RMSprop([p], differentiable=True), "differentiable=True"),
        (lambda p: optim.SGD([{"params": [p], "l1": -0.1}]), r"l1 is -0\.1"),
        (lambda p: optim.SGD([p]).step(clip_norm=-1), "clip_norm is -1, expected at least 0"),
        (lambda p: optim.SGD([p]).step(clip_value=0), "clip_value is 0, expected above 0"),
        (lambda p: optim.SGD([p]).step(clip_norm=1, clip_value=1), "are both given"),
        (lambda p: optim.Adam([p], fused=True), "fused=True"),
        (lambda p: optim.AdamW([p], capturable=True), "capturable=True"),
        (lambda p: optim.AdamW([p], differentiable=True), "differentiable=True"),
    ],
)
def test_bad_values(make, message):
    with pytest.raises(ValueError, match=message):
        make(nn.Parameter(np.ones(2)))


def test_what_is_no_parameter():
    for params in (nn.Parameter(np.ones(2)), 3):
        with pytest.raises(TypeError, match="expected an iterable of parameters"):
            optim.SGD(params)
    with pytest.raises(TypeError, match="params holds a ndarray"):
        optim.SGD([np.ones(2)])
    with pytest.raises(TypeError, match="key 'params'"):
        optim.SGD([{"lr": 1}])


def test_a_state_that_does_not_fit_changes_nothing(rng):
    ours = parameters(rng)
    made = optim.Adam(ours)
    give_gradients(rng, ours)
    made.step()
    state = made.state_dict()
    other = optim.Adam(ours[:2])
    with pytest.raises(ValueError, match=r"groups of \[4\] parameters, expected \[2\]"):
        other.load_state_dict(state)
    state["state"][1]["exp_avg"] = np.zeros((5, 5))
    before = made.state[ours[0]]["exp_avg"]
    with pytest.raises(ValueError, match=r"exp_avg of shape \(5, 5\), expected the parameter's, \(5,\)"):
        made.load_state_dict(state)
    assert made.state[ours[0]]["exp_avg"] is before


def test_a_refused_step_leaves_no_half_made_state():
    parameter = nn.Parameter(np.ones(3))
    parameter.grad = np.ones(3)
    made = optim.SGD([parameter], lr=0.1, momentum=0.9)
    with nnk.use_backend("cpu"), pytest.raises(TypeError, match="float64"):
        made.step()
    assert not made.state
    made.step()
    np.testing.assert_allclose(parameter.data, 0.9)


@pytest.mark.parametrize("name", NAMES)
def test_a_constraint_is_applied_after_the_update(name):
    def between_zero_and_one(data):
        data.clip(0, 1, out=data)

    bound = nn.Parameter(np.array([0.05, 0.5, 0.95]), constraint=between_zero_and_one)
    free, still = nn.Parameter(bound.data.copy()), nn.Parameter(np.full(3, 2.0), constraint=between_zero_and_one)
    optimizer = getattr(optim, name)([bound, free, still], lr=100.0 if name == "Adadelta" else 0.1)
    bound.grad = free.grad = np.array([1.0, 1.0, -1.0])
    optimizer.step()
    np.testing.assert_array_equal(bound.data, np.clip(free.data, 0, 1))
    assert free.data.min() < 0
    assert free.data.max() > 1
    np.testing.assert_array_equal(still.data, np.full(3, 2.0))  # without a gradient it is not updated


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("clip", [{"clip_norm": 0.7}, {"clip_norm": 1e3}, {"clip_value": 0.4}, {}])
@pytest.mark.parametrize("name", NAMES)
def test_clipping_and_penalties_within_the_update(rng, name, clip, backend):
    dtype = np.float64 if backend == "reference" else np.float32
    l1 = 0.02
    fused = [nn.Parameter(p.data.astype(dtype)) for p in parameters(rng)]
    apart = copy.deepcopy(fused)
    groups = [{"params": fused[:2], "l1": l1}, {"params": fused[2:], "l1": 0.0}]
    ours, plain = getattr(optim, name)(groups, lr=0.1), getattr(optim, name)(apart, lr=0.1)
    with nnk.use_backend(backend):
        for _ in range(3):
            give_gradients(rng, fused)
            grads = [p.grad for p in fused]
            for parameter, grad in zip(apart, grads):
                parameter.grad = grad
            if "clip_norm" in clip:
                nn.utils.clip_grad_norm_(apart, clip["clip_norm"])
            if "clip_value" in clip:
                nn.utils.clip_grad_value_(apart, clip["clip_value"])
            for parameter in apart[:2]:
                parameter.grad = parameter.grad + l1 * np.sign(parameter.data)
            ours.step(**clip)
            plain.step()
            assert all(p.grad is grad for p, grad in zip(fused, grads))
    tolerance = 1e-12 if backend == "reference" else 1e-5
    for our, their in zip(fused, apart):
        np.testing.assert_allclose(our.data, their.data, rtol=tolerance, atol=tolerance)
    assert ours.state_dict()["param_groups"][0]["l1"] == l1


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_an_update_that_is_left_out_never_was(rng, name, options):
    ours = parameters(rng)
    theirs = copy.deepcopy(ours)
    some, all_ = getattr(optim, name)(ours, **options), getattr(optim, name)(theirs, **options)
    for step in range(1 if options.get("dampening") else 0, 8):
        give_gradients(rng, ours)
        for our, their in zip(ours, theirs):
            their.grad = our.grad
        if step % 3 == 0:
            for parameter in ours:
                parameter.grad = np.full_like(parameter.grad, np.nan)
            some.step(skip=np.array(1, np.int32))
        else:
            some.step(skip=np.array(0, np.int32), grad_scale=np.array(1.0))
            all_.step()
    for our, their in zip(ours, theirs):
        np.testing.assert_array_equal(our.data, their.data)
    give_gradients(rng, ours)
    for our, their in zip(ours, theirs):
        their.grad = our.grad
    some.step()
    all_.step()
    for our, their in zip(ours, theirs):
        np.testing.assert_array_equal(our.data, their.data)
    for ours_, theirs_ in zip(some.state_dict()["state"].values(), all_.state_dict()["state"].values()):
        assert ours_.get("step") == theirs_.get("step") in (None, 6)


def test_noise_is_left_out_with_the_update(rng):
    ours = [nn.Parameter(np.ones((3, 4), np.float32))]
    optimizer = optim.SGD([{"params": ours, "noise": 0.1}])
    give_gradients(rng, ours)
    for skip, moves in ((1, False), (0, True)):
        optimizer.step(skip=np.array(skip, np.int32))
        assert (ours[0].data != 1).any() == moves


def test_an_l1_penalty_leaves_zeros_where_they_are():
    parameter = nn.Parameter(np.array([0.0, 1.0, -1.0]))
    parameter.grad = np.zeros(3)
    optim.SGD([{"params": [parameter], "l1": 0.5}], lr=0.1).step()
    np.testing.assert_allclose(parameter.data, [0.0, 0.95, -0.95])


def test_a_variance_that_rounding_makes_negative_counts_as_zero():
    with nnk.use_backend("cpu"):
        parameter = nn.Parameter(np.zeros(64, np.float32))
        made = optim.RMSprop([parameter], lr=1e-3, alpha=0.5, centered=True)
        for _ in range(60):
            parameter.grad = np.linspace(0.1, 3, 64, dtype=np.float32)
            made.step()
    assert np.isfinite(parameter.data).all()
