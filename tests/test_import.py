"""What `import nnk` and its parts bring along, each in a fresh process."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import nnk

HEAVY = {"numba", "llvmlite", "sklearn", "matplotlib", "cupy", "safetensors", "tqdm", "torch", "scipy", "pandas"}


def modules_after(code):
    code += "\nimport sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_import_nnk_brings_nothing():
    loaded = modules_after("import nnk; dir(nnk)")
    assert not loaded & {*HEAVY, "numpy"}
    assert not {name for name in loaded if name.startswith("nnk.")}


def test_modules_and_optimisers_need_numpy_alone():
    loaded = modules_after("import nnk; nnk.nn.Linear(2, 2); nnk.optim.SGD; nnk.manual_seed(0); nnk.empty_cache()")
    assert not loaded & HEAVY
    assert not {name for name in loaded if name.startswith("nnk.kernels.")} - {"nnk.kernels.shapes"}


def test_without_docstrings():
    subprocess.run([sys.executable, "-OO", "-c", "import nnk; nnk.nn, nnk.optim, nnk.train"], check=True)


def test_the_reference_needs_numpy_alone():
    code = "import nnk, numpy as np\nwith nnk.use_backend('reference'): nnk.nn.ReLU()(np.ones(3))"
    assert not modules_after(code) & HEAVY


@pytest.mark.parametrize("name", nnk.__all__)
def test_every_name_is_there(name):
    assert getattr(nnk, name) is not None
    assert name in dir(nnk)
    assert dir(nnk) == sorted(set(dir(nnk)))


def test_unknown_name():
    with pytest.raises(AttributeError, match="module 'nnk' has no attribute 'tensor'"):
        nnk.tensor  # noqa: B018


def test_version():
    assert nnk.__version__[0].isdigit()


def test_a_checkout_that_is_not_installed_says_what_to_do(tmp_path):
    shutil.copytree(Path(nnk.__file__).parent, tmp_path / "nnk", ignore=shutil.ignore_patterns("__pycache__"))
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in repr(finder)]
import nnk
nnk.nn
"""
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True)
    assert done.returncode != 0
    assert "python -m pip install -e ." in done.stderr
