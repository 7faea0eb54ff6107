"""bench/gpu_all.sh, with a stand-in for Python that keeps what it is asked for; and what the GPU benches import."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "bench" / "gpu_all.sh"
BENCHES = ("gpu", "gpu_report", "gpu_session", "gpu_machine", "gpu_ops", "gpu_conv", "gpu_step", "step_torch", "peers")
REFUSED = ("safetensors", "threadpoolctl", "tqdm", "matplotlib", "sklearn", "PIL", "hypothesis", "ml_dtypes",
           "greenlet", "scipy")  # fmt: skip
PARTS = ["kernels", "rungs", "parity", "ops", "conv", "step"]

PYTHON = """#!/usr/bin/env bash
echo "$PYTHONPATH | $*" >>"$CALLS"
case "$*" in
"-m pip"*) [[ -n ${PIP-} ]] ;;
"-m pytest"*) echo "12 passed" ;;
*"$FAILING"*) echo "the reason"; exit 3 ;;
*"$SLOW"*) sleep 30 ;;
*gpu_report*) echo "THE TABLE" ;;
*--out*) while (($# > 1)); do shift; done; echo "{}" >"$1" ;;
esac
"""

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")


@pytest.fixture
def gpu_all(tmp_path):
    """Run the script with some parts; the result, and the calls of Python without their folders."""
    program = tmp_path / "python"
    program.write_text(PYTHON)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)

    def run(*parts, **settings):
        calls = tmp_path / "calls"
        calls.write_text("")
        environment = {"FAILING": "nothing", "SLOW": "nothing", "OUT": str(tmp_path / "out"), **settings}
        environment = {"PATH": os.environ["PATH"], "PYTHON": str(program), "CALLS": str(calls), **environment}
        result = subprocess.run([SCRIPT, *parts], env=environment, capture_output=True, text=True, check=False)
        lines = [line.partition(" | ")[2] for line in calls.read_text().splitlines()]
        return result, [line.replace(f"{ROOT}/bench/", "") for line in lines]

    return run


def test_all_parts_run_in_order_and_the_table_comes_last(gpu_all, tmp_path):
    result, calls = gpu_all()
    assert result.returncode == 0, result.stdout
    assert calls[0].startswith("-m pip install --quiet --no-deps --no-build-isolation --target ")
    assert calls[1] == "gpu_machine.py"
    assert calls[2].startswith("-m nnk warmup --cuda")
    rungs, parity = (call for call in calls if call.startswith("-m pytest"))
    options, tests = "-n 6 --max-worker-restart 100 --timeout 100 --timeout-method thread", f"{ROOT}/tests/kernels/cuda"
    assert rungs.endswith(f" {options} {tests}/test_bulk_copies.py {tests}/test_rungs.py {tests}/test_first_layer.py")
    assert f" {options} {tests} {ROOT}/tests/cuda/test_cuda_device.py --ignore={tests}/test_resources.py" in parity
    assert [call.split()[0] for call in calls[-4:]] == ["gpu_ops.py", "gpu_conv.py", "gpu_step.py", "gpu_report.py"]
    assert [line.split(":")[0] for line in result.stdout.splitlines()[1:7]] == PARTS
    assert "THE TABLE" in result.stdout
    assert "12 passed" in (tmp_path / "out" / "gpu_all.log").read_text()
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "gpu_all.log", "gpu_ops.json", "gpu_conv.json", "gpu_step.json"
    }


def test_the_parts_share_the_time(gpu_all):
    def seconds(calls):
        return [int(call.split()[2]) for call in calls if "--seconds" in call]

    _, calls = gpu_all(TIME="530")  # the stand-ins take none, so that more is left for each
    for found, most in zip(seconds(calls), (530 * 105 // 310 - 20, 530 * 95 // 205 - 20, 530 - 20)):
        assert most - 5 <= found <= most
    _, calls = gpu_all("ops", TIME="300")
    assert 270 <= seconds(calls)[0] <= 280
    _, calls = gpu_all("conv", TIME="20")
    assert 8 <= seconds(calls)[0] <= 10


def test_a_part_that_fails_does_not_stop_the_others(gpu_all, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "gpu_ops.json").write_text("of an earlier run")
    result, calls = gpu_all("ops", "conv", FAILING="gpu_ops.py")
    assert result.returncode == 1
    assert "ops: FAILED (status 3)" in result.stdout
    assert "the reason" in result.stdout
    assert "conv: done" in result.stdout
    assert result.stdout.endswith("failed: ops\n")
    assert calls[-1].startswith("gpu_report.py")
    assert not (tmp_path / "out" / "gpu_ops.json").exists()


def test_a_part_that_takes_too_long_is_stopped(gpu_all):
    result, _ = gpu_all("step", "kernels", TIME="3", SLOW="gpu_step.py")
    assert result.returncode == 1
    assert "step: FAILED (status 124), stopped after" in result.stdout
    assert "kernels: done" in result.stdout


def test_without_a_gpu_nothing_is_measured(gpu_all):
    result, calls = gpu_all(FAILING="gpu_machine.py")
    assert result.returncode == 1
    assert calls[-1] == "gpu_machine.py"
    assert "nothing was measured" in result.stderr


def test_nvvm_is_looked_for_beside_the_compiler(gpu_all, tmp_path):
    program = tmp_path / "shows"
    program.write_text('#!/usr/bin/env bash\n[[ $* != *gpu_machine* ]] || echo "CUDA_HOME=${CUDA_HOME-}"\n')
    program.chmod(0o755)
    toolkit = tmp_path / "cuda"
    (toolkit / "bin").mkdir(parents=True)
    (toolkit / "nvvm").mkdir()
    (toolkit / "bin" / "nvcc").write_text("#!/usr/bin/env bash\n")
    (toolkit / "bin" / "nvcc").chmod(0o755)
    found = {"PYTHON": str(program), "PATH": f"{toolkit}/bin:{os.environ['PATH']}"}
    result, _ = gpu_all("kernels", **found)
    assert f"CUDA_HOME={toolkit}\n" in result.stdout
    result, _ = gpu_all("kernels", CUDA_PATH="elsewhere", **found)
    assert "CUDA_HOME=\n" in result.stdout


def test_the_sanitizer_runs_where_it_is_found_and_asked_for(gpu_all, tmp_path):
    if shutil.which("compute-sanitizer") is None:
        result, calls = gpu_all("sanitizer", CUDA_PATH=str(tmp_path))
        assert result.returncode == 0
        assert "sanitizer: skipped, compute-sanitizer is not found" in result.stdout
        assert not any("gpu_sanitizer" in call for call in calls)
    program = tmp_path / "bin" / "compute-sanitizer"
    program.parent.mkdir()
    program.write_text('#!/usr/bin/env bash\necho " | sanitizer $2" >>"$CALLS"\n[[ $2 != "${WRONG-}" ]] && "${@:5}"\n')
    program.chmod(0o755)
    found = {"PATH": f"{program.parent}:{os.environ['PATH']}"}
    result, calls = gpu_all("sanitizer", **found)
    assert result.returncode == 0
    watched = [call for call in calls if "sanitizer" in call]
    tools = [call.split()[1] for call in watched[::2]]
    assert tools == ["memcheck", "racecheck"]
    assert watched[1] == watched[3] == "gpu_sanitizer.py"
    result, _ = gpu_all("sanitizer", WRONG="racecheck", **found)
    assert result.returncode == 1
    assert "sanitizer: FAILED (status 1)" in result.stdout


def test_unknown_parts_are_named(gpu_all):
    result, calls = gpu_all("ops", "opps")
    assert (result.returncode, calls) == (2, [])
    assert "unknown part 'opps', expected some of: kernels rungs parity ops conv step sanitizer" in result.stderr


@pytest.mark.parametrize("settings", [{}, {"PIP": "works"}])
def test_nnk_is_found_with_and_without_pip(gpu_all, settings):
    result, _ = gpu_all("kernels", **settings)
    assert ("installed by pip" if settings else "nnk linked") in result.stdout


def test_the_links_are_the_layout_of_the_package(tmp_path, gpu_all):
    """The stand-in hands its first call on to Python, which imports nnk from the links alone."""
    program = tmp_path / "real"
    imports = "import nnk, nnk.kernels.ops as o; from nnk import models; models.lenet; print(nnk.__file__, o.__file__)"
    program.write_text(
        "#!/usr/bin/env bash\n[[ $* == '-m pip'* ]] && exit 1\n[[ $* == *gpu_machine* ]] || exit 0\n"
        f"cd / && {sys.executable} -c '{imports}'\n"
    )
    program.chmod(0o755)
    result, _ = gpu_all("kernels", PYTHON=str(program))
    found = result.stdout.splitlines()[0].split()
    assert all("/site/nnk/" in path for path in found), result


def test_nothing_but_what_a_gpu_machine_has_is_imported():
    pytest.importorskip("torch")
    program = f"""
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {REFUSED}:
            raise ModuleNotFoundError(name=name)
sys.meta_path.insert(0, Refuse())
sys.path.insert(0, {str(ROOT / "bench")!r})
for name in {BENCHES}:
    __import__(name)
import gpu_step
from workload import Workload
from types import SimpleNamespace
gpu = SimpleNamespace(device="cpu", array=lambda x: x)
ours = gpu_step.Ours(Workload("digits_cnn", 4, "SGD"), gpu, {{}})
ours.run(2)
print(ours.loss() > 0)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert run.stdout.strip() == "True", run.stderr
