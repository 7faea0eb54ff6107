"""No row of the registry has a hole."""

import inspect
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from nnk.kernels import ops, parity, reference
from nnk.kernels.ops import OPS

try:
    import_module("nnk.kernels.cuda._numba")
except ImportError:  # without numba-cuda, CI's installation for that has the third column
    BACKENDS = ("reference", "cpu")
else:
    BACKENDS = ("reference", "cpu", "cuda")
NOT_OPS = {"simd", "launch"}  # files without an underscore that hold no op, as do those of ptx
FUNCTIONS = [pytest.param(op, name, id=name) for op in OPS for name in op.functions]

each_op = pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
each_function = pytest.mark.parametrize(("op", "name"), FUNCTIONS)


def signature(backend, op, name):
    function = getattr(import_module(f"nnk.kernels.{backend}.{op.file}"), name)
    return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]


@pytest.mark.parametrize("backend", BACKENDS)
@each_function
def test_every_backend_has_the_function_with_the_same_signature(op, name, backend):
    assert signature(backend, op, name) == signature("reference", op, name)


@each_function
def test_functions_take_out_or_work_in_place(op, name):
    parameters = inspect.signature(getattr(reference, name)).parameters
    if op.mutates.get(name):
        assert set(op.mutates[name]) <= set(parameters)
    if "out" in parameters:
        assert parameters["out"].kind is inspect.Parameter.KEYWORD_ONLY
        assert parameters["out"].default is None
    else:
        assert op.mutates.get(name)


@pytest.mark.parametrize("backend", BACKENDS)
@each_function
def test_packages_offer_functions_not_files(op, name, backend):
    package = import_module(f"nnk.kernels.{backend}")
    file = import_module(f"nnk.kernels.{backend}.{op.file}")
    assert getattr(package, name) is getattr(file, name)
    assert name in dir(package)


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_file_is_in_the_registry_and_the_other_way_round(backend):
    folder = Path(import_module(f"nnk.kernels.{backend}").__file__).parent
    files = {path.stem for path in folder.glob("*.py") if not path.stem.startswith("_")}
    files = {name for name in files - NOT_OPS if not name.startswith("ptx")}
    assert files == {op.file for op in OPS}


def test_every_public_function_of_the_reference_is_in_the_registry():
    for file in {op.file for op in OPS}:
        module = import_module(f"nnk.kernels.reference.{file}")
        public = {
            name
            for name, value in vars(module).items()
            if inspect.isfunction(value) and value.__module__ == module.__name__ and name[0] != "_"
        }
        listed = {name for op in OPS if op.file == file for name in op.functions + op.reference_only}
        assert public == listed


def test_names_are_unique():
    names = [op.name for op in OPS]
    functions = [name for op in OPS for name in op.functions + op.reference_only]
    assert len(set(names)) == len(names)
    assert len(set(functions)) == len(functions)


@each_op
def test_every_function_has_a_parity_case(op):
    case = op.suite.cases[0]
    calls = op.calls(reference, parity.make_inputs(case, np.float32))
    assert set(calls) == set(op.functions)
    assert len({case.name for case in op.suite.cases}) == len(op.suite.cases)


@each_op
def test_every_op_has_a_gradient_check(op):
    """Ops on data or in place on parameters have no gradient; all others have, and a smooth case to check it on."""
    gradients = op.suite.gradients
    assert bool(gradients) == (op.differentiable and "params" not in op.mutates.get(op.functions[0], ()))
    smooth = [case for case in op.suite.cases if case.smooth]
    assert smooth
    for case in smooth:
        inputs = case.make(np.random.default_rng(0))
        results = op.suite.run(reference, **inputs)
        assert not gradients or {"y", *(f"d{name}" for name in gradients if inputs[name] is not None)} <= set(results)


@each_op
def test_every_function_has_a_bench_entry(op):
    assert 1 <= len(op.suite.bench) <= 4
    inputs = parity.make_inputs(op.suite.cases[0], np.float32)
    costs = op.suite.cost(**inputs)
    assert set(costs) == set(op.functions)
    assert all(cost.bytes > 0 and cost.flops > 0 for cost in costs.values())


def test_an_unknown_function_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_function"):
        reference.no_such_function  # noqa: B018


def test_the_registry_is_cheap_to_import():
    loaded = (
        "import sys, nnk.kernels.ops, nnk.kernels.cpu; print(*(m in sys.modules for m in ('numba', 'torch')))"
    )
    answer = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert answer.stdout.split() == ["False", "False"]
    assert ops.FILES["max_pool2d"] == "pool2d"
