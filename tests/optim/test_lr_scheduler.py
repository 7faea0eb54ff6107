import copy
import inspect
import json

import numpy as np
import pytest

from nnk import nn, optim
from nnk.optim import lr_scheduler

VARIANTS = [
    ("StepLR", {"step_size": 3}),
    ("StepLR", {"step_size": 4, "gamma": 0.5}),
    ("MultiStepLR", {"milestones": [2, 5, 5, 11], "gamma": 0.3}),
    ("ExponentialLR", {"gamma": 0.9}),
    ("CosineAnnealingLR", {"T_max": 7}),
    ("CosineAnnealingLR", {"T_max": 30, "eta_min": 1e-3}),
    ("LinearLR", {}),
    ("LinearLR", {"start_factor": 0.1, "end_factor": 0.5, "total_iters": 9}),
    ("LinearLR", {"start_factor": 1.0, "end_factor": 0.0, "total_iters": 40}),
    ("ConstantLR", {}),
    ("ConstantLR", {"factor": 0.2, "total_iters": 9}),
    ("PolynomialLR", {}),
    ("PolynomialLR", {"total_iters": 20, "power": 2.5}),
    ("LambdaLR", {"lr_lambda": lambda t: 1 / (1 + t)}),
    ("LambdaLR", {"lr_lambda": [lambda t: 0.9**t, lambda t: t]}),
    ("CosineAnnealingWarmRestarts", {"T_0": 4}),
    ("CosineAnnealingWarmRestarts", {"T_0": 3, "T_mult": 2, "eta_min": 1e-3}),
    ("CyclicLR", {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 4}),
    ("CyclicLR", {"base_lr": [0, 0.02], "max_lr": 1, "step_size_up": 3, "step_size_down": 5, "mode": "triangular2"}),
    ("CyclicLR", {"base_lr": 0.0, "max_lr": 0.1, "step_size_up": 4, "mode": "exp_range", "gamma": 0.9}),
    ("CyclicLR", {"base_lr": 0.1, "max_lr": 0.2, "step_size_up": 2, "scale_fn": lambda x: x, "cycle_momentum": False}),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 30}),
    ("OneCycleLR", {"max_lr": [0.5, 0.2], "epochs": 6, "steps_per_epoch": 5, "anneal_strategy": "linear"}),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 31, "three_phase": True, "pct_start": 0.4, "div_factor": 10.0}),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 30, "cycle_momentum": False, "final_div_factor": 10.0}),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 30, "base_momentum": [0.5, 0.6], "max_momentum": 0.9}),
]


def optimizer(name="SGD"):
    parameters = [nn.Parameter(np.ones(2)) for _ in range(2)]
    options = {"momentum": 0.8} if name == "SGD" else {}
    groups = [{"params": [parameters[0]]}, {"params": [parameters[1]], "lr": 0.02}]
    return getattr(optim, name)(groups, lr=0.1, **options)


def torch_optimizer(name="SGD"):
    torch = pytest.importorskip("torch")
    parameters = [torch.nn.Parameter(torch.ones(2)) for _ in range(2)]
    options = {"momentum": 0.8} if name == "SGD" else {}
    groups = [{"params": [parameters[0]]}, {"params": [parameters[1]], "lr": 0.02}]
    return getattr(torch.optim, name)(groups, lr=0.1, **options)


def numbers(optimizer):
    return [
        (group["lr"], group["betas"][0] if "betas" in group else group["momentum"]) for group in optimizer.param_groups
    ]


@pytest.mark.filterwarnings("ignore:Detected call of")
@pytest.mark.parametrize("kind", ["SGD", "AdamW"])
@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_as_in_torch(kind, name, options):
    torch = pytest.importorskip("torch")
    ours, theirs = optimizer(kind), torch_optimizer(kind)
    our = getattr(lr_scheduler, name)(ours, **options)
    their = getattr(torch.optim.lr_scheduler, name)(theirs, **options)
    for _ in range(30):
        np.testing.assert_allclose(numbers(ours), numbers(theirs), rtol=1e-12)
        np.testing.assert_allclose(our.get_last_lr(), their.get_last_lr(), rtol=1e-12)
        our.step()
        their.step()
    state, expected = our.state_dict(), their.state_dict()
    assert state.keys() == expected.keys() - {"_get_lr_called_within_step"}
    for key in ("base_lrs", "last_epoch", "_step_count"):
        assert state[key] == expected[key]


@pytest.mark.filterwarnings("ignore:Detected call of")
@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_torchs_state_loads(name, options):
    torch = pytest.importorskip("torch")
    theirs = torch_optimizer()
    their = getattr(torch.optim.lr_scheduler, name)(theirs, **options)
    for _ in range(7):
        their.step()
    ours = optimizer()
    our = getattr(lr_scheduler, name)(ours, **options)
    ours.load_state_dict(theirs.state_dict())
    our.load_state_dict(their.state_dict())
    for _ in range(20):
        np.testing.assert_allclose(numbers(ours), numbers(theirs), rtol=1e-12)
        our.step()
        their.step()


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_a_resumed_schedule_continues_exactly(name, options):
    ours = optimizer()
    our = getattr(lr_scheduler, name)(ours, **options)
    for _ in range(7):
        our.step()
    saved = json.loads(json.dumps(our.state_dict(), default=dict))
    state = copy.deepcopy(ours.state_dict())
    expected = []
    for _ in range(20):
        our.step()
        expected.append(numbers(ours))
    fresh = optimizer()
    twin = getattr(lr_scheduler, name)(fresh, **options)
    fresh.load_state_dict(state)
    if name == "MultiStepLR":  # JSON turns the milestones, keys of a dict, into strings
        saved["milestones"] = {int(key): value for key, value in saved["milestones"].items()}
    twin.load_state_dict(saved)
    for numbers_then in expected:
        twin.step()
        assert numbers(fresh) == numbers_then


@pytest.mark.filterwarnings("ignore:Detected call of")
def test_schedules_on_one_optimiser_multiply_as_in_torch():
    torch = pytest.importorskip("torch")
    ours, theirs = optimizer(), torch_optimizer()
    both = [
        [s.LinearLR(o, total_iters=4), s.ExponentialLR(o, 0.9), s.CosineAnnealingLR(o, 10)]
        for s, o in ((lr_scheduler, ours), (torch.optim.lr_scheduler, theirs))
    ]
    for _ in range(15):
        for our, their in zip(*both):
            our.step()
            their.step()
        np.testing.assert_allclose(numbers(ours), numbers(theirs), rtol=1e-12)


@pytest.mark.filterwarnings("ignore:Detected call of")
@pytest.mark.parametrize(("name", "options"), [v for v in VARIANTS if v[0] not in ("OneCycleLR", "CyclicLR")])
def test_from_a_last_epoch_as_in_torch(name, options):
    torch = pytest.importorskip("torch")
    ours, theirs = optimizer(), torch_optimizer()
    with pytest.raises(KeyError, match="initial_lr"):
        getattr(lr_scheduler, name)(ours, **options, last_epoch=4)
    for made in (ours, theirs):
        for group in made.param_groups:
            group["initial_lr"] = 0.1
    our = getattr(lr_scheduler, name)(ours, **options, last_epoch=4)
    their = getattr(torch.optim.lr_scheduler, name)(theirs, **options, last_epoch=4)
    for _ in range(10):
        np.testing.assert_allclose(numbers(ours), numbers(theirs), rtol=1e-12)
        our.step()
        their.step()


def combined(s, made, name):
    """A combination of schedules, from our package or PyTorch's."""
    if name == "warm-up, cosine":
        parts = [s.LinearLR(made, 0.01, total_iters=5), s.CosineAnnealingLR(made, 20)]
        return s.SequentialLR(made, parts, [5])
    if name == "chained":
        return s.ChainedScheduler([s.ConstantLR(made, 0.1, 4), s.ExponentialLR(made, 0.9)])
    if name == "chained sequence":
        parts = [s.LinearLR(made, total_iters=3), s.StepLR(made, 2)]
        return s.ChainedScheduler([s.SequentialLR(made, parts, [3]), s.ExponentialLR(made, 0.99)])
    kinds = {
        "decays": lambda: [
            s.StepLR(made, 2),
            s.MultiStepLR(made, [0, 2], 0.5),
            s.ExponentialLR(made, 0.8),
            s.PolynomialLR(made, 4),
            s.ConstantLR(made, 0.3, 3),
            s.LinearLR(made, 0.5, total_iters=3),
        ],
        "others": lambda: [
            s.CosineAnnealingWarmRestarts(made, 3),
            s.LambdaLR(made, lambda t: 1 / (1 + t)),
            s.CosineAnnealingWarmRestarts(made, 2, 2),
            s.CyclicLR(made, 0.01, 0.1, 2),
            s.CosineAnnealingLR(made, 3),
            s.OneCycleLR(made, 0.5, 6),
        ],
    }
    return s.SequentialLR(made, kinds[name](), [4, 8, 12, 16, 20])


COMBINED = ["warm-up, cosine", "chained", "chained sequence", "decays", "others"]


@pytest.mark.filterwarnings("ignore:Detected call of", "ignore:The epoch parameter")
@pytest.mark.parametrize("name", COMBINED)
def test_combinations_as_in_torch(name):
    torch = pytest.importorskip("torch")
    ours, theirs = optimizer(), torch_optimizer()
    our, their = combined(lr_scheduler, ours, name), combined(torch.optim.lr_scheduler, theirs, name)
    for step in range(25):
        np.testing.assert_allclose(numbers(ours), numbers(theirs), rtol=1e-12, err_msg=str(step))
        np.testing.assert_allclose(our.get_last_lr(), their.get_last_lr(), rtol=1e-12)
        our.step()
        their.step()
    assert our.state_dict().keys() == their.state_dict().keys()


@pytest.mark.parametrize("name", COMBINED)
def test_combinations_resume(name):
    ours = optimizer()
    our = combined(lr_scheduler, ours, name)
    for _ in range(10):
        our.step()
    saved, state = copy.deepcopy(our.state_dict()), copy.deepcopy(ours.state_dict())
    fresh = optimizer()
    twin = combined(lr_scheduler, fresh, name)
    fresh.load_state_dict(state)
    twin.load_state_dict(saved)
    for _ in range(14):
        our.step()
        twin.step()
        assert numbers(fresh) == numbers(ours)


PLATEAUS = [
    {},
    {"patience": 2, "factor": 0.5},
    {"mode": "max", "patience": 0, "cooldown": 2, "threshold": 0.1},
    {"patience": 1, "threshold": 0.5, "threshold_mode": "abs", "min_lr": [0.01, 0.005], "cooldown": 1},
    {"mode": "max", "threshold": 0.2, "threshold_mode": "abs", "patience": 1, "eps": 0.02},
]


@pytest.mark.parametrize("options", PLATEAUS)
def test_plateaus_as_in_torch(options):
    torch = pytest.importorskip("torch")
    ours, theirs = optimizer(), torch_optimizer()
    our = lr_scheduler.ReduceLROnPlateau(ours, **options)
    their = torch.optim.lr_scheduler.ReduceLROnPlateau(theirs, **options)
    assert our.state_dict() == their.state_dict()
    rng = np.random.default_rng(3)
    metrics = [*np.cumsum(rng.normal(size=40)), float("nan"), *[1.0] * 15]
    for step, metric in enumerate(metrics):
        our.step(metric)
        their.step(metric)
        np.testing.assert_allclose(numbers(ours), numbers(theirs), rtol=1e-12)
        assert our.state_dict() == their.state_dict()
        if step == 20:
            fresh = optimizer()
            fresh.load_state_dict(ours.state_dict())
            twin = lr_scheduler.ReduceLROnPlateau(fresh)
            twin.load_state_dict(json.loads(json.dumps(our.state_dict())))
            ours, our = fresh, twin
    assert numbers(ours)[0][0] < 0.1


def test_a_plateau_knows_groups_that_were_added():
    made = optimizer()
    plateau = lr_scheduler.ReduceLROnPlateau(made, patience=0, factor=0.5)
    made.add_param_group({"params": [nn.Parameter(np.ones(1))]})
    plateau.step(1.0)
    plateau.step(1.0)
    assert [group["lr"] for group in made.param_groups] == [0.05, 0.01, 0.05]


def test_restarts_at_fractions_of_an_epoch_as_in_torch():
    torch = pytest.importorskip("torch")
    for options in ({"T_0": 3}, {"T_0": 2, "T_mult": 3}):
        ours, theirs = optimizer(), torch_optimizer()
        our = lr_scheduler.CosineAnnealingWarmRestarts(ours, **options)
        their = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(theirs, **options)
        for epoch in np.arange(0, 30, 0.25).tolist():
            our.step(epoch)
            their.step(epoch)
            np.testing.assert_allclose(numbers(ours), numbers(theirs), rtol=1e-12)


class Decay:
    def __init__(self, gamma):
        self.gamma = gamma

    def __call__(self, t):
        return self.gamma**t


def test_what_callable_objects_remember_is_saved():
    for name, options in (
        ("LambdaLR", lambda decay: {"lr_lambda": decay}),
        ("CyclicLR", lambda decay: {"base_lr": 0.1, "max_lr": 0.2, "step_size_up": 2, "scale_fn": decay}),
    ):
        our = getattr(lr_scheduler, name)(optimizer(), **options(Decay(0.5)))
        twin = getattr(lr_scheduler, name)(optimizer(), **options(Decay(0.9)))
        twin.load_state_dict(json.loads(json.dumps(our.state_dict())))
        for _ in range(4):
            our.step()
            twin.step()
            assert our.get_last_lr() == twin.get_last_lr()


@pytest.mark.parametrize("name", lr_scheduler.__all__)
def test_arguments_are_torchs(name):
    torch = pytest.importorskip("torch")
    ours, theirs = (
        [(p.name, p.default, p.kind) for p in inspect.signature(getattr(o, name)).parameters.values()]
        for o in (lr_scheduler, torch.optim.lr_scheduler)
    )
    assert ours == theirs


def test_a_cycle_ends():
    made = lr_scheduler.OneCycleLR(optimizer(), 0.1, total_steps=3)
    for _ in range(3):
        made.step()
    with pytest.raises(ValueError, match="step 4 of a cycle of total_steps 3"):
        made.step()


def test_a_cycle_whose_first_phase_is_one_step():
    ours = optimizer()
    lr_scheduler.OneCycleLR(ours, 0.1, total_steps=2, pct_start=0.5)
    assert ours.param_groups[0]["lr"] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda o: lr_scheduler.StepLR(o, 0), "step_size is 0"),
        (lambda o: lr_scheduler.LinearLR(o, 0.0), r"start_factor is 0\.0"),
        (lambda o: lr_scheduler.LinearLR(o, end_factor=2.0), r"end_factor is 2\.0"),
        (lambda o: lr_scheduler.ConstantLR(o, 0.0), r"factor is 0\.0"),
        (lambda o: lr_scheduler.LambdaLR(o, [abs]), "lr_lambda has 1 values, expected 2"),
        (lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 0), "T_0 is 0"),
        (lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 2).step(-1), "epoch is -1"),
        (lambda o: lr_scheduler.CyclicLR(o, 0.1, 0.2, mode="square"), "mode is 'square'"),
        (lambda o: lr_scheduler.ReduceLROnPlateau(o, factor=1), "factor is 1"),
        (lambda o: lr_scheduler.ReduceLROnPlateau(o, "least"), "mode is 'least'"),
        (lambda o: lr_scheduler.ReduceLROnPlateau(o, threshold_mode="log"), "threshold_mode is 'log'"),
        (lambda o: lr_scheduler.ReduceLROnPlateau(o, min_lr=[0.1]), "min_lr has 1 values, expected 2"),
        (lambda o: lr_scheduler.ChainedScheduler([]), "schedulers is empty"),
        (lambda o: lr_scheduler.ChainedScheduler([lr_scheduler.ReduceLROnPlateau(o)]), "is a ReduceLROnPlateau, which"),
        (lambda o: lr_scheduler.ChainedScheduler([lr_scheduler.StepLR(o, 2)], optimizer()), "has another optimizer"),
        (lambda o: lr_scheduler.SequentialLR(o, [lr_scheduler.StepLR(o, 2)], [3]), "has 1 steps, expected 0"),
        (
            lambda o: lr_scheduler.SequentialLR(o, [lr_scheduler.ChainedScheduler([lr_scheduler.StepLR(o, 2)])], []),
            "is a ChainedScheduler, which SequentialLR cannot hold",
        ),
        (lambda o: lr_scheduler.OneCycleLR(o, 0.1), "total_steps is None"),
        (lambda o: lr_scheduler.OneCycleLR(o, 0.1, 0), "total_steps is 0"),
        (lambda o: lr_scheduler.OneCycleLR(o, 0.1, epochs=0, steps_per_epoch=3), "epochs is 0"),
        (lambda o: lr_scheduler.OneCycleLR(o, 0.1, 10, pct_start=2.0), r"pct_start is 2\.0"),
        (lambda o: lr_scheduler.OneCycleLR(o, 0.1, 10, anneal_strategy="exp"), "anneal_strategy is 'exp'"),
        (lambda o: lr_scheduler.OneCycleLR(o, [0.1], 10), "max_lr has 1 values, expected 2"),
    ],
)
def test_bad_values(make, message):
    with pytest.raises(ValueError, match=message):
        make(optimizer())


def test_what_is_no_optimiser():
    given = {"StepLR": (1,), "OneCycleLR": (0.1, 3), "LambdaLR": (abs,), "ReduceLROnPlateau": ()}
    for name, arguments in given.items():
        with pytest.raises(TypeError, match="optimizer is a str, expected"):
            getattr(lr_scheduler, name)("SGD", *arguments)
