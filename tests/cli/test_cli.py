import os
import re
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest

import nnk.cli
from nnk import backend, data, nn
from nnk.data import ArrayDataset
from nnk.train import Trainer

pytest.importorskip("safetensors")

FAST = ["--epochs", "2", "--batch-size", "64", "--model", "lenet"]


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def toy_data(monkeypatch):
    """The digits replaced by a few images that need no scikit-learn."""

    def load():
        rng = np.random.default_rng(0)
        return tuple(
            ArrayDataset(rng.normal(size=(n, 1, 8, 8)).astype(np.float32), np.arange(n) % 10) for n in (200, 50)
        )

    monkeypatch.setitem(data.registry.LOADERS, "digits", load)


def nnk_command(*arguments):
    """Run the command in this process and return its exit code."""
    try:
        return nnk.cli.main(list(arguments))
    except SystemExit as exit:
        return exit.code


def start(*arguments, **kwargs):
    return subprocess.Popen(
        [sys.executable, "-m", "nnk", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **kwargs,
    )


# ---------------------------------------------------------------- train
def test_train_prints_the_accuracy_last_and_keeps_the_run(toy_data, capsys, tmp_path):
    assert nnk_command("train", *FAST) == 0
    output = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"test accuracy [01]\.\d{4}", output[-1])
    assert output[-2].startswith(f"files   {os.path.join('runs', 'digits-1')}: checkpoint.safetensors, config.json, ")
    assert (tmp_path / "runs" / "digits-1" / "model.safetensors").exists()
    assert nnk_command("train", *FAST) == 0
    again = capsys.readouterr().out.splitlines()
    assert again[-1] == output[-1]  # the default seed repeats
    weights = [(tmp_path / "runs" / f"digits-{i}" / "model.safetensors").read_bytes() for i in (1, 2)]
    assert weights[0] == weights[1]


def test_another_seed_is_another_run(toy_data, tmp_path):
    for seed in "01":
        assert nnk_command("train", *FAST, "--seed", seed, "--out", seed) == 0
    assert (tmp_path / "0" / "model.safetensors").read_bytes() != (tmp_path / "1" / "model.safetensors").read_bytes()


@pytest.mark.parametrize("optimizer", ["adadelta", "adagrad", "adam", "adamw", "rmsprop", "sgd"])
def test_optimizers_by_name(toy_data, capsys, optimizer):
    assert nnk_command("train", *FAST, "--optimizer", optimizer, "--out", optimizer) == 0
    assert "test accuracy" in capsys.readouterr().out


def test_gradients_are_clipped(toy_data, tmp_path):
    for norm in ("1e-6", "1e6"):
        assert nnk_command("train", *FAST, "--clip-norm", norm, "--optimizer", "sgd", "--out", norm) == 0
    assert nnk_command("train", *FAST, "--optimizer", "sgd", "--out", "plain") == 0
    weights = [(tmp_path / run / "model.safetensors").read_bytes() for run in ("1e-6", "1e6", "plain")]
    assert weights[0] != weights[1] == weights[2]


def test_augmentations_by_name(toy_data, capsys, tmp_path):
    names = ",".join(data.augmentation_names())
    assert nnk_command("train", *FAST, "--augment", names, "--out", "run") == 0
    first = capsys.readouterr().out.splitlines()[-1]
    assert nnk_command("train", "--out", "run", "--resume") == 0
    assert capsys.readouterr().out.splitlines()[-1] == first
    assert nnk_command("train", *FAST, "--out", "plain") == 0
    weights = [(tmp_path / run / "model.safetensors").read_bytes() for run in ("plain", "run")]
    assert weights[0] != weights[1]


def test_data_is_downloaded_into_the_folder_asked_for(toy_data, monkeypatch, capsys, tmp_path):
    asked = []
    monkeypatch.setitem(data.registry.DOWNLOADS, "mnist", lambda root: asked.append(root) or data.load("digits"))
    assert nnk_command("train", *FAST, "--data", "mnist", "--data-dir", "here", "--out", "run") == 0
    assert asked == [Path("here") / "mnist"]

    def broken(root):
        raise data.DataError("train.bin is truncated or damaged")

    monkeypatch.setitem(data.registry.DOWNLOADS, "cifar10", broken)
    assert nnk_command("train", "--data", "cifar10") == 2
    assert capsys.readouterr().err == "nnk train: error: train.bin is truncated or damaged\n"


@pytest.fixture
def pictures(tmp_path):
    """A folder of two classes of pictures that are easily told from each other."""
    image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    for name, level in {"dark": 40, "light": 200}.items():
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for i in range(20):
            noise = rng.integers(-20, 20, (8, 9, 3))
            image.fromarray((level + noise).astype(np.uint8)).save(tmp_path / "pictures" / name / f"{i}.png")


def test_a_folder_of_images_is_learnt_and_resumed_where_it_lies(pictures, capsys, tmp_path):
    assert nnk_command("train", *FAST, "--data", "folder", "--data-dir", "pictures", "--size", "8", "--out", "run") == 0
    output = capsys.readouterr().out.splitlines()
    assert output[0] == "data    folder: 32 training and 8 test images"
    assert output[-1] == "test accuracy 1.0000"
    assert nnk_command("train", "--out", "run", "--resume") == 0
    assert capsys.readouterr().out.splitlines()[-1] == output[-1]
    (tmp_path / "pictures").rename(tmp_path / "moved")
    assert nnk_command("train", "--out", "run", "--resume") == 2
    assert capsys.readouterr().err == "nnk train: error: there is no folder pictures\n"
    assert nnk_command("train", "--out", "run", "--resume", "--data-dir", "moved") == 0
    assert capsys.readouterr().out.splitlines()[-1] == output[-1]
    assert nnk_command("train", "--out", "run", "--resume", "--data-dir", "moved", "--size", "9") == 2
    assert "it is another run: size is 9 here and 8 in the run" in capsys.readouterr().err


def test_show_draws_augmentations(toy_data, capsys, tmp_path):
    pytest.importorskip("matplotlib")
    assert nnk_command("show", "--augment", "crop,color,cutout", "--out", "picture.png") == 0
    assert capsys.readouterr().out == "picture picture.png: 8 images of digits, as they are and as 9 epochs see them\n"
    first = (tmp_path / "picture.png").read_bytes()
    assert nnk_command("show", "--augment", "crop,color,cutout", "--seed", "1", "--out", "picture.png") == 0
    assert (tmp_path / "picture.png").read_bytes() != first
    assert nnk_command("show", "--augment", "flop") == 2
    assert "unknown augmentation 'flop'" in capsys.readouterr().err


def test_resume_takes_the_runs_own_options(toy_data, capsys, tmp_path):
    assert nnk_command("train", *FAST, "--seed", "5", "--lr", "0.01", "--out", "run") == 0
    first = capsys.readouterr().out.splitlines()
    model = (tmp_path / "run" / "model.safetensors").read_bytes()
    assert nnk_command("train", "--out", "run", "--resume") == 0
    output = capsys.readouterr().out.splitlines()
    assert output[-1] == first[-1]
    assert output[2].startswith("run     run: 2 epochs, 2 of them done; ")
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == model


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--threads", "0"], "argument --threads: expected a whole number of at least 1, got '0'"),
        (["--threads", "two"], "argument --threads: expected a whole number of at least 1, got 'two'"),
        (["--epochs", "0"], "argument --epochs: expected a whole number of at least 1, got '0'"),
        (["--batch-size", "-3"], "argument --batch-size: expected a whole number of at least 1, got '-3'"),
        (["--lr", "0"], "argument --lr: expected a number above 0, got '0'"),
        (["--lr", "nan"], "argument --lr: expected a number above 0, got 'nan'"),
        (["--seed", "-1"], "argument --seed: expected a whole number from 0 to 2**64 - 1, got '-1'"),
        (["--model", "resnet"], "unknown model 'resnet', known are: digits_cnn, lenet, maxout_cnn, mobilenet"),
        (["--data", "mnits"], "unknown data 'mnits', known are: cifar10, cifar100, digits, fashion_mnist, folder"),
        (["--size", "8"], "size is 8, which goes with data 'folder' alone"),
        (["--data", "folder"], "there is no folder data"),
        (["--augment", "crop,flop"], "unknown augmentation 'flop', known are: affine, blur, color, crop, cutmix"),
        (["--optimizer", "adma"], "unknown optimizer 'adma', known are: adadelta, adagrad, adam, adamw, rmsprop, sgd"),
        (["--resume"], "--resume needs --out DIR, the folder of the run to continue"),
        (["--resume", "--out", "none"], "there is no checkpoint none/checkpoint.safetensors"),
        (["--out", "file"], "--out file is a file, not a folder"),
        (["--out", "file/run"], "Not a directory: 'file/run'"),
        (["--out", "run"], "run holds a run already: add --resume to continue it, or choose another --out"),
        (["--resume", "--out", "broken"], "checkpoint broken/checkpoint.safetensors is truncated or damaged:"),
        (["--resume", "--out", "foreign"], "the run in foreign was not started by nnk train"),
        (["--resume", "--out", "run", "--lr", "0.5"], "cannot resume run, it is another run: lr is 0.5 here and 0.003"),
        (["--resume", "--out", "run", "--model", "vgg8"], 'it is another run: model is "vgg8" here and "lenet" in'),
        (["--device", "tpu"], "argument --device: invalid choice: 'tpu'"),
        (["--unknown"], "unrecognized arguments: --unknown"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(toy_data, capsys, tmp_path, arguments, message):
    if "run" in arguments:
        nnk_command("train", *FAST, "--out", "run")
    if "broken" in arguments:
        (tmp_path / "broken").mkdir()
        (tmp_path / "broken" / "checkpoint.safetensors").write_bytes(b"\0" * 100)
    if "foreign" in arguments:
        Trainer(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), out="foreign").fit(data.load("digits")[0])
    (tmp_path / "file").write_text("")
    capsys.readouterr()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert nnk_command("train", *arguments) == 2
    err = capsys.readouterr().err
    assert message.replace("/", os.sep) in err
    assert re.fullmatch(r"nnk( train)?: error: [^\n]+\n", err)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_no_gpu_is_one_line(toy_data, capsys, monkeypatch):
    monkeypatch.setattr(backend, "cuda_problem", lambda: "CuPy finds no GPU")
    assert nnk_command("train", *FAST, "--device", "cuda", "--out", "run") == 2
    assert capsys.readouterr().err.endswith("--device cuda cannot be used: CuPy finds no GPU\n")
    assert not Path("run").exists()


def test_mixed_precision_is_for_gpus(toy_data, capsys):
    assert nnk_command("train", *FAST, "--precision", "bf16", "--out", "run") == 2
    assert capsys.readouterr().err.endswith("--precision bf16 needs --device cuda: CPU kernels are float32\n")


def test_more_threads_than_cores_are_a_one_line_warning(toy_data, capsys):
    threads = nnk.get_num_threads()
    try:
        assert nnk_command("train", *FAST, "--threads", "1000") == 0
    finally:
        nnk.set_num_threads(threads)
    assert re.fullmatch(r"nnk: warning: 1000 threads asked for[^\n]*\n", capsys.readouterr().err)


def test_a_bad_environment_variable_is_one_line():
    for command in ("train", "doctor"):
        process = start(command, env={**os.environ, "NNK_NUM_THREADS": "none"})
        err = process.communicate()[1]
        assert err == f"nnk {command}: error: NNK_NUM_THREADS must be a positive integer, got 'none'\n"
        assert process.returncode == 2


def test_a_missing_extra_is_named(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    assert nnk_command("train") == 2
    assert "python -m pip install 'nnk[demo]'" in capsys.readouterr().err


def test_a_rate_that_blows_up_ends_with_one_line(toy_data, capsys):
    assert nnk_command("train", *FAST, "--optimizer", "sgd", "--lr", "1e38") == 1
    err = capsys.readouterr().err
    assert re.search(r"error: the loss is (nan|inf|-inf) in epoch \d", err)
    assert "a lower --lr may help" in err
    assert err.count("\n") == 1


def test_ctrl_c_says_how_to_resume_and_the_run_ends_the_same(tmp_path):
    pytest.importorskip("sklearn")
    options = ["--epochs", "3", "--model", "lenet"]
    whole = start("train", *options, "--out", "whole")
    out, err = whole.communicate()
    assert whole.returncode == 0, err
    # Far more epochs than there is time for are cut off by Ctrl-C; so are three, if it comes early enough.
    stopped = start("train", *options, "--out", "run")
    checkpoint = tmp_path / "run" / "checkpoint.safetensors"
    while not checkpoint.exists() and stopped.poll() is None:
        time.sleep(0.002)
    stopped.send_signal(signal.SIGINT)
    _, err = stopped.communicate()
    assert stopped.returncode == 130, err
    assert "continue with: nnk train --out run --resume" in err
    assert "Traceback" not in err
    resumed = start("train", "--out", "run", "--resume")
    resumed_out, err = resumed.communicate()
    assert resumed.returncode == 0, err
    assert resumed_out.splitlines()[-1] == out.splitlines()[-1]
    for name in ("model.safetensors", "history.csv"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_the_digits_are_learnt(capsys):
    pytest.importorskip("sklearn")
    assert nnk_command("train", "--epochs", "4") == 0
    assert float(capsys.readouterr().out.split()[-1]) > 0.95


# ---------------------------------------------------------------- doctor
def test_doctor_shows_the_machine_and_every_operation(capsys):
    assert nnk_command("doctor") == 0
    out = capsys.readouterr().out
    for title in ("nnk", "python", "packages", "cpu", "simd", "threads", "kernel cache", "gpu", "tuned"):
        assert re.search(rf"^{title} +\S", out, re.MULTILINE)
    for op in backend.kernels("ops").OPS:
        assert re.search(rf"^{op.name} +ok +", out, re.MULTILINE)


@pytest.mark.skipif(backend.cuda_problem() is None, reason="there is a GPU")
def test_doctor_says_why_there_is_no_cuda_column(capsys):
    assert nnk_command("doctor") == 0
    out = capsys.readouterr().out
    assert f"not on a GPU: {backend.cuda_problem()}" in out
    for op in backend.kernels("ops").OPS:
        assert re.search(rf"^{op.name} +ok .* -$", out, re.MULTILINE)


def test_doctor_checks_every_operation_on_the_gpu(capsys, monkeypatch):
    """The CPU's kernels stand in for those of a GPU, and one of them is wrong."""
    import nnk.cli.doctor  # noqa: F401 - before its backend is replaced

    def wrong(x, *, out=None):
        return np.abs(x)

    there = types.SimpleNamespace(**{name: getattr(backend.kernels("cpu"), name) for op in backend.kernels("ops").OPS
                                     for name in op.functions})  # fmt: skip
    there.relu = wrong
    find, sent = backend.kernels, []
    here = {"cuda": there, "cuda._chooser": types.SimpleNamespace(device=lambda: 0, stored=lambda device: {1: 2, 3: 4}),
            "cuda._tuning": types.SimpleNamespace(device_name=lambda device: "Card 7", path="{}.json".format)}
    monkeypatch.setattr(backend, "kernels", lambda name: here.get(name) or find(name))
    monkeypatch.setattr(backend, "asarray_on", lambda x, device: (sent.append(device), x)[1])
    monkeypatch.setattr(backend, "cuda_problem", lambda: None)
    monkeypatch.setattr(backend, "gpu", lambda: ("Card 7, compute capability 9.0", "13.0"))
    assert nnk_command("doctor") == 1
    out, err = capsys.readouterr()
    assert re.search(r"^gpu +Card 7, compute capability 9\.0; driver of CUDA 13\.0", out, re.MULTILINE)
    assert re.search(r"^tuned +2 shapes in Card 7\.json$", out, re.MULTILINE)
    assert re.search(r"^relu +ok .*FAILED", out, re.MULTILINE)
    assert re.search(r"^tanh +ok .*ok", out, re.MULTILINE)
    assert "1 of " in err
    assert sent.count("cuda") > len(find("ops").OPS)


def test_doctor_fails_when_an_operation_is_wrong(capsys, monkeypatch):
    def wrong(x, *, out=None):
        return np.abs(x)

    monkeypatch.setattr(backend.kernels("cpu"), "relu", wrong)

    def broken(*args, **kwargs):
        raise ZeroDivisionError("no good")

    monkeypatch.setattr(backend.kernels("cpu"), "linear", broken)
    assert nnk_command("doctor") == 1
    out, err = capsys.readouterr()
    assert re.search(r"^relu +FAILED", out, re.MULTILINE)
    assert re.search(r"^linear +FAILED +ZeroDivisionError: no good", out, re.MULTILINE)
    assert re.search(r"^tanh +ok", out, re.MULTILINE)
    assert "2 of " in err


# ---------------------------------------------------------------- the command itself
def test_help(capsys):
    assert nnk_command("--help") == 0
    out = capsys.readouterr().out
    for command in ("train", "bench", "doctor", "tune"):
        assert re.search(rf"^ +{command} +\w", out, re.MULTILINE)
    assert nnk_command("train", "--help") == 0
    out = capsys.readouterr().out
    for option in ("data", "model", "epochs", "batch-size", "lr", "optimizer", "seed", "threads", "out", "resume"):
        assert f"--{option}" in out
    known = "digits_cnn, lenet, maxout_cnn, mobilenet, resnet18, resnet20, resnet50, selu_cnn, vgg8"
    assert known in " ".join(out.split())


def test_no_command_shows_the_help(capsys):
    assert nnk_command() == 2
    assert "usage: nnk" in capsys.readouterr().out


def test_version(capsys):
    assert nnk_command("--version") == 0
    assert capsys.readouterr().out == f"nnk {nnk.__version__}\n"


def test_an_unknown_command_is_one_line(capsys):
    assert nnk_command("trian") == 2
    assert re.fullmatch(r"nnk: error: [^\n]*trian[^\n]*\n", capsys.readouterr().err)


def test_bench_without_a_checkout_says_where_benches_are(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(nnk, "__file__", str(tmp_path / "site-packages" / "nnk" / "__init__.py"))
    assert nnk_command("bench") == 2
    assert "the benches come with nnk's repository" in capsys.readouterr().err


def test_bench_hands_all_arguments_to_the_benches(capfd, monkeypatch, tmp_path):
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "__main__.py").write_text("import sys; print(sys.argv[1:]); sys.exit(3)")
    monkeypatch.setattr(nnk, "__file__", str(tmp_path / "nnk" / "__init__.py"))
    assert nnk_command("bench", "--help", "--op", "conv2d") == 3
    assert capfd.readouterr().out == "['--help', '--op', 'conv2d']\n"


@pytest.mark.parametrize("flags", [[], ["-OO"]])  # -OO drops docstrings
def test_python_dash_m(flags):
    output = subprocess.run([sys.executable, *flags, "-m", "nnk", "--version"], capture_output=True, text=True)
    assert output.stdout == f"nnk {nnk.__version__}\n"
    assert output.returncode == 0


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGPIPE")
def test_a_reader_that_leaves_early_is_no_traceback():
    process = start("doctor")
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 1


# ---------------------------------------------------------------- activations
def test_activations_prints_tables_and_draws(capsys, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(nnk.cli.activations, "WIDTH", 60)
    assert nnk_command("activations", "--out", "picture.png") == 0
    output = capsys.readouterr().out
    for title in ("Tanh, small: std 0.01", "Tanh, Xavier", "ReLU, large: std 0.2", "ReLU, Kaiming"):
        assert f"{title}\nlayer  kind" in output
    assert output.splitlines()[-1] == "histograms of all outputs: picture.png"
    assert (tmp_path / "picture.png").read_bytes()[:4] == b"\x89PNG"
    assert nnk_command("activations", "--out", "none/picture.png") == 2
    assert "none/picture.png cannot be written" in capsys.readouterr().err.replace(os.sep, "/")


def test_kaiming_keeps_the_spread_of_relu_and_small_weights_lose_it(monkeypatch):
    monkeypatch.setattr(nnk.cli.activations, "WIDTH", 200)
    kept = nnk.cli.activations.network_stats(nn.ReLU, nnk.cli.activations.WEIGHTS["Kaiming"])
    lost = nnk.cli.activations.network_stats(nn.ReLU, nnk.cli.activations.WEIGHTS["small: std 0.01"])
    assert 0.5 < kept[-1].std / kept[0].std < 2
    assert lost[-1].std < 1e-3 * lost[0].std
