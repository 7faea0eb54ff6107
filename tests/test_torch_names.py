"""What nnk and PyTorch both have takes the same arguments: names, order, kinds and defaults."""

import inspect

import pytest

from nnk import nn, optim

torch = pytest.importorskip("torch")

ROOMS = {
    "nn": (nn, torch.nn),
    "optim": (optim, torch.optim),
    "optim.lr_scheduler": (optim.lr_scheduler, torch.optim.lr_scheduler),
    "nn.init": (nn.init, torch.nn.init),
    "nn.utils": (nn.utils, torch.nn.utils),
}
OTHERWISE = {
    "nn.Parameter": "data has no default: a parameter without numbers is a mistake",
    "nn.Sequential": "modules in place of args: callers cannot write the name of *args",
}
SHARED = [
    pytest.param(getattr(ours, name), getattr(theirs, name), id=f"{room}.{name}")
    for room, (ours, theirs) in ROOMS.items()
    for name in ours.__all__
    if hasattr(theirs, name) and not inspect.ismodule(getattr(ours, name))
]


def arguments(function):
    return [(p.name, p.kind.description, p.default) for p in inspect.signature(function).parameters.values()]


def differences(ours, theirs):
    """What a call in PyTorch's manner would run into: none of its arguments may be missing, moved or changed."""
    ours, theirs = arguments(ours), arguments(theirs)
    shared = zip(ours, theirs)
    found = [f"{mine} in place of {its}" for mine, its in shared if repr(mine) != repr(its)]
    found += [f"{its} is missing" for its in theirs[len(ours) :]]
    found += [f"{mine} is no keyword-only argument with a default" for mine in ours[len(theirs) :] if not extra(mine)]
    return found


def extra(argument):
    """Arguments that PyTorch lacks are keyword-only and may be left out."""
    _, kind, default = argument
    return kind == "keyword-only" and default is not inspect.Parameter.empty


@pytest.mark.parametrize(("ours", "theirs"), SHARED)
def test_arguments_are_those_of_torch(request, ours, theirs):
    found = differences(ours, theirs)
    excused = request.node.callspec.id in OTHERWISE
    assert bool(found) == excused, found or "nothing differs: the reason in OTHERWISE is out of date"


def test_every_room_shares_names_with_torch():
    shared = [param.id for param in SHARED]
    least = {"nn": 40, "optim": 7, "optim.lr_scheduler": 14, "nn.init": 14, "nn.utils": 2}
    for room, (ours, _) in ROOMS.items():
        assert sum(f"{room}.{name}" in shared for name in ours.__all__) >= least[room]
    assert set(shared) >= OTHERWISE.keys()


def theirs(a, b=1, *, c=None):
    pass


@pytest.mark.parametrize(
    "ours",
    [
        lambda a, b=1: None,
        lambda a, x=1, *, c=None: None,
        lambda b=1, a=None, *, c=None: None,
        lambda a, b=1.0, *, c=None: None,
        lambda a, b=1, c=None: None,
        lambda a, b=1, d=2, *, c=None: None,
        lambda a, b=1, *, c=None, d: None,
        lambda a, b, *, c=None: None,
    ],
    ids=["missing", "renamed", "reordered", "default", "kind", "between", "without default", "required"],
)
def test_a_difference_is_found(ours):
    assert differences(ours, theirs)


def test_what_torch_lacks_may_follow():
    assert not differences(lambda a, b=1, *, c=None, d=2: None, theirs)
