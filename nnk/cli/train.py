"""``nnk train``: train a network on a data set, and keep the run in a folder."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nnk
from nnk import backend, data, models, optim
from nnk.train import (
    Checkpoint,
    CheckpointError,
    NonFiniteError,
    Progress,
    Trainer,
    files,
    new_run_dir,
    read_run,
)

from .errors import CommandError, num_threads

RUNS = Path("runs")
OPTIMIZERS: dict[str, Callable[..., optim.Optimizer]] = {
    "adadelta": optim.Adadelta,
    "adagrad": optim.Adagrad,
    "adam": optim.Adam,
    "adamw": optim.AdamW,
    "rmsprop": optim.RMSprop,
    "sgd": lambda params, lr: optim.SGD(params, lr, momentum=0.9, nesterov=True),
}
RATES = {"adadelta": 1.0, "adagrad": 0.03, "adam": 0.003, "adamw": 0.003, "rmsprop": 0.001, "sgd": 0.1}
DEFAULTS = {
    "data": "digits",
    "data_dir": "data",
    "size": None,
    "model": "digits_cnn",
    "epochs": 20,
    "batch_size": 32,
    "lr": None,
    "optimizer": "adam",
    "seed": 0,
    "augment": "",
    "accumulate": 1,
    "clip_norm": None,
    "precision": None,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""

    def option(name: str, kind: Callable, metavar: str, text: str) -> None:
        default = DEFAULTS[name.replace("-", "_")]
        shown = "" if default in (None, "") else f" (default: {default})"
        parser.add_argument(f"--{name}", type=kind, metavar=metavar, help=text + shown)

    rates = ", ".join(f"{rate:g} for {name}" for name, rate in RATES.items())
    option("data", str, "NAME", f"data set: {', '.join(data.names())}; folder is one of images, DIR/<class>/<image>")
    option("data-dir", str, "DIR", "the folder of images, or where data sets are kept and downloaded to")
    option("size", _positive_int, "N", "height and width that the images of a folder are brought to")
    option("model", str, "NAME", f"network: {', '.join(models.names())}")
    option("epochs", _positive_int, "N", "passes over the training images")
    option("batch-size", _positive_int, "N", "images per step")
    option("lr", _positive_float, "RATE", f"highest learning rate of the one-cycle schedule (default: {rates})")
    option("optimizer", str, "NAME", f"optimiser: {', '.join(OPTIMIZERS)}")
    option("seed", _seed, "N", "seed of weights, shuffling and augmentation; a run with the same seed repeats")
    augmentations = ", ".join(data.augmentation_names())
    option("augment", str, "NAMES", f"augmentations, with commas between (nnk show draws them): {augmentations}")
    option("accumulate", _positive_int, "N", "batches whose mean gradient makes one update")
    option("clip-norm", _positive_float, "NORM", "norm that the gradients of an update have at most")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="where to train (default: cpu)")
    parser.add_argument("--precision", choices=("bf16", "fp16"), help="mixed precision, on a GPU (default: float32)")
    parser.add_argument("--threads", type=_positive_int, metavar="N", help="threads to use (default: all cores)")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder for the run (default: a new one, runs/<data>-<number>)"
    )
    parser.add_argument(
        "--resume", action="store_true", help="continue the run in --out from its checkpoint, with its own options"
    )


def run(args: argparse.Namespace) -> int:
    """Train, and print the accuracy on the test images as the last line."""
    chosen = {name: getattr(args, name) for name in DEFAULTS if getattr(args, name) is not None}
    threads, device = args.threads, args.device
    if args.resume:
        saved = _saved_run(args.out)
        config = saved["config"] | chosen
        threads = threads or saved["environment"]["threads"]
        device = device or saved["environment"].get("device")
    else:
        _require_free(args.out)
        config = DEFAULTS | chosen
        config["lr"] = config["lr"] or RATES.get(config["optimizer"])
    problem = backend.cuda_problem() if device == "cuda" else None
    if problem:
        raise CommandError(f"--device cuda cannot be used: {problem}")
    if config["precision"] is not None and device != "cuda":
        raise CommandError(f"--precision {config['precision']} needs --device cuda: CPU kernels are float32")
    if threads is not None:
        nnk.set_num_threads(threads)
    threads = num_threads()
    train, test, steps, model, optimizer = _build(config, device or "cpu")
    if args.resume:
        config["data_dir"] = saved["config"]["data_dir"]  # it is the same run where the data have moved
    out = args.out or _new_run_dir(config["data"])
    print(f"data    {config['data']}: {len(train)} training and {len(test)} test images")
    print(f"model   {config['model']}: {sum(p.data.size for p in model.parameters()):,} parameters")
    done = f", {saved['epoch']} of them done" if args.resume else ""
    where = "on the GPU" if device == "cuda" else f"{threads} thread{'s' * (threads > 1)}"
    print(f"run     {out}: {config['epochs']} epochs{done}; {where}", flush=True)

    if steps:
        train = data.ArrayDataset(*train.arrays)
    order = {"shuffle": True, "seed": config["seed"]}
    loader = data.DataLoader(train, config["batch_size"], **order, augment=steps, device=device)
    total = config["epochs"] * math.ceil(len(loader) / config["accumulate"])
    cycle = optim.lr_scheduler.OneCycleLR(
        optimizer, config["lr"], total, cycle_momentum=not {"momentum", "betas"}.isdisjoint(optimizer.defaults)
    )
    trainer = Trainer(
        model,
        optimizer=optimizer,
        scheduler=cycle,
        batch_size=config["batch_size"],
        accumulate=config["accumulate"],
        clip_norm=config["clip_norm"],
        precision=config["precision"],
        callbacks=[Progress(), Checkpoint(seconds=60)],
        out=out,
        config=config,
    )
    try:
        trainer.fit(loader, test, config["epochs"], resume=args.resume)
        accuracy = trainer.evaluate(test)["accuracy"]
    except KeyboardInterrupt:
        where = f"interrupted after {trainer.epoch} of {config['epochs']} epochs"
        resume = f"; continue with: nnk train --out {out} --resume" if files.holds_run(out) else ""
        raise KeyboardInterrupt(where + resume) from None
    except BrokenPipeError:
        raise
    except (CheckpointError, OSError) as error:
        raise CommandError(str(error)) from error
    except NonFiniteError as error:
        raise CommandError(f"{error}; a lower --lr may help", 1) from error
    print(f"files   {out}: {', '.join(sorted(path.name for path in out.iterdir()))}")
    print(f"test accuracy {accuracy:.4f}")
    return 0


def _build(
    config: dict[str, Any], device: str
) -> tuple[data.ArrayDataset, data.ArrayDataset, list[data.Step], nnk.nn.Module, optim.Optimizer]:
    if config["optimizer"] not in OPTIMIZERS:
        raise CommandError(f"unknown optimizer {config['optimizer']!r}, known are: {', '.join(OPTIMIZERS)}")
    nnk.manual_seed(config["seed"])
    try:
        train, test = data.load(config["data"], config["data_dir"], config["size"])
        chosen = [name for name in config["augment"].split(",") if name]
        steps = data.augmentations(chosen, train) if chosen else []
        images, labels = train.arrays
        model = models.create(config["model"], images.shape[1:], int(labels.max()) + 1).to(device)
    except (ValueError, OSError, ModuleNotFoundError, data.DataError) as error:
        raise CommandError(str(error)) from error
    return train, test, steps, model, OPTIMIZERS[config["optimizer"]](model.parameters(), lr=config["lr"])


def _saved_run(out: Path | None) -> dict[str, Any]:
    if out is None:
        raise CommandError("--resume needs --out DIR, the folder of the run to continue")
    try:
        saved = read_run(out)
    except CheckpointError as error:
        raise CommandError(str(error)) from error
    if saved["config"].keys() != DEFAULTS.keys():
        raise CommandError(f"the run in {out} was not started by nnk train")
    return saved


def _new_run_dir(name: str) -> Path:
    try:
        return new_run_dir(RUNS, name)
    except OSError as error:
        raise CommandError(f"no folder for the run: {error}") from error


def _require_free(out: Path | None) -> None:
    if out is None:
        return
    if files.holds_run(out):
        raise CommandError(f"{out} holds a run already: add --resume to continue it, or choose another --out")
    if out.exists() and not out.is_dir():
        raise CommandError(f"--out {out} is a file, not a folder")


def _positive_int(text: str) -> int:
    return _number(int, text, lambda n: n >= 1, "a whole number of at least 1")


def _seed(text: str) -> int:
    return _number(int, text, lambda n: 0 <= n < 2**64, "a whole number from 0 to 2**64 - 1")


def _positive_float(text: str) -> float:
    return _number(float, text, lambda rate: 0 < rate < math.inf, "a number above 0")


def _number(kind: type, text: str, is_good: Callable[[Any], bool], expected: str) -> Any:
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not is_good(value):
        raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}")
    return value
