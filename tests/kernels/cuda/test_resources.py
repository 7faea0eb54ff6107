"""Every kernel compiled for every architecture, without a GPU: nothing spilled, no access narrowed, nothing grown.

`kernels/cuda/resources.txt` is the table; `python -m nnk.kernels.cuda._resources --write` makes it anew.
"""

import inspect
from importlib import import_module

import pytest

from nnk.kernels.cuda._numba import SIMULATED
from nnk.kernels.ops import OPS

if SIMULATED:
    pytest.skip("the simulator compiles nothing", allow_module_level=True)

from nnk.kernels.cuda import _link, launch
from nnk.kernels.cuda import _resources as resources

AGAIN = "`python -m nnk.kernels.cuda._resources --write` writes the table anew"


@pytest.fixture(scope="module")
def lines():
    try:
        _link.nvjitlink()
    except ImportError as error:
        pytest.skip(str(error))
    return resources.measured()


@pytest.fixture(scope="module")
def counted(lines):
    if any(line.counts is None for line in lines.values()):
        pytest.skip("instructions are counted by nvdisasm: python -m pip install nvidia-cuda-nvdisasm")
    return {name: line.counts for name, line in lines.items()}


def test_cuda_kernels_keep_everything_in_registers(lines):
    assert not {name: str(line) for name, line in lines.items() if line.spilled or line.stack}


def test_cuda_kernels_compute_in_float32(counted):
    assert not {name: counts["F64"] for name, counts in counted.items() if counts["F64"]}


def test_cuda_kernels_keep_their_wide_accesses(counted):
    _, table = resources.table()
    wide = {(name, access) for name, line in table.items() for access in ("LDG.128", "STG.128") if f"{access}=" in line}
    assert not {(name, access) for name, access in wide if name in counted and not counted[name][access]}


def test_cuda_kernels_are_all_in_the_table(lines):
    _, table = resources.table()
    assert (sorted(lines.keys() - table.keys()), sorted(table.keys() - lines.keys())) == ([], []), AGAIN


def test_cuda_kernels_are_as_in_the_table(lines, counted):
    made_by, table = resources.table()
    if made_by != resources.versions():
        pytest.skip(f"the table was made with {made_by}; here are {resources.versions()}: pip install 'nnk[cudacheck]'")
    changed = {name: f"{line}, in the table {table.get(name)}" for name, line in lines.items()
               if table.get(name) != str(line)}
    assert not changed, AGAIN


def test_cuda_kernels_of_a_file_have_different_names():
    names = [kernel.entry for kernel in resources.declared()]
    assert len(names) == len(set(names)), sorted(name for name in set(names) if names.count(name) > 1)


@pytest.mark.parametrize("op", OPS, ids=lambda op: f"cuda-{op.name}")
def test_cuda_op_declares_kernels(op):
    module = import_module(f"nnk.kernels.cuda.{op.file}")
    reference = import_module(f"nnk.kernels.reference.{op.file}")
    for name in op.functions:
        want, got = (inspect.signature(getattr(place, name)) for place in (reference, module))
        assert [(p.name, p.kind, p.default) for p in got.parameters.values()] == [
            (p.name, p.kind, p.default) for p in want.parameters.values()
        ], f"{name}: {got}, the reference has {want}"
    # Its own kernels, or those of a file that it takes helpers from.
    used = {module.__name__} | {getattr(thing, "__module__", None) for thing in vars(module).values()}
    assert any(kernel.function.__module__ in used for kernel in launch.KERNELS)
