"""``nnk tune``: which kernels and tiles are fastest on this GPU, for the convolutions of a network."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterable
from typing import Any

import numpy as np

import nnk
from nnk import backend, models
from nnk.train.precision import MixedPrecision

from .errors import CommandError

COMMON = (("resnet20", 512, 32), ("resnet18", 512, 32), ("vgg8", 512, 32), ("resnet50", 64, 224))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--model", metavar="NAME", help=f"network: {', '.join(models.names())} (default: resnet18)")
    parser.add_argument("--batch-size", type=_positive, metavar="N", help="images per step (default: 512)")
    parser.add_argument("--size", type=_positive, metavar="S", help="height and width of the images (default: 32)")
    common = "; ".join(f"{name}, {batch} images of {size}" for name, batch, size in COMMON)
    parser.add_argument("--layers", action="store_true", help=f"tune for some common networks instead: {common}")
    parser.add_argument("--precision", choices=("highest", "bf16", "fp16"),
                        help="strict float32, or mixed precision (default: float32, as TF32)")
    parser.add_argument("--seconds", type=float, default=300, metavar="T", help="time to spend (default: 300)")
    parser.add_argument("--clear", action="store_true", help="delete the tables of all GPUs instead")


def run(args: argparse.Namespace) -> int:
    """Measure, print a table and keep it; or delete what is kept."""
    if args.clear:
        return _clear()
    if args.layers and (args.model or args.batch_size or args.size):
        raise CommandError("--layers stands for networks of its own: leave --model, --batch-size and --size out")
    problem = backend.cuda_problem()
    if problem:
        raise CommandError(f"there is no GPU to tune for: {problem}", 1)
    chooser, tuning = backend.kernels("cuda._chooser"), backend.kernels("cuda._tuning")
    networks = COMMON if args.layers else [(args.model or "resnet18", args.batch_size or 512, args.size or 32)]
    works: dict[Any, None] = {}
    for network in networks:
        works |= _recorded(*network, args.precision, chooser)
        nnk.empty_cache()
    device = chooser.device()
    table, new = chooser.stored(device), _measured(works, args.seconds)
    if not new:
        print("nothing was measured")
        return 0
    try:
        where = tuning.write(tuning.device_name(device), table | new)
    except OSError as error:
        raise CommandError(f"the table cannot be kept: {error}", 1) from error
    chooser.load(device, anew=True)
    print(f"kept in {where} ({len(table | new)} shapes); the last bits of results may differ from before")
    return 0


def _recorded(name: str, batch: int, size: int, precision: str | None, chooser: Any) -> dict[Any, None]:
    """What one forward and backward of a network asks the chooser for; `precision` may be "highest"."""
    try:
        model = models.create(name, (3, size, size), 10).to("cuda")
    except ValueError as error:
        raise CommandError(str(error)) from error
    x = backend.asarray_on(np.ones((batch, 3, size, size), np.float32), "cuda")
    mixed, before = MixedPrecision(None if precision == "highest" else precision), nnk.get_precision()
    nnk.set_precision("highest" if precision == "highest" else before)
    try:
        with chooser.recording() as seen:
            y = model(mixed.narrow(x))
            model.backward(np.ones_like(y), input_grad=False)
    finally:
        nnk.set_precision(before)
    return seen


def _measured(works: Iterable[Any], seconds: float) -> dict[Any, Any]:
    """The fastest candidates by work; what is done when time is up, or at Ctrl-C, counts."""
    tuner, shown = backend.kernels("cuda._tuner"), backend.kernels("cuda._tuning").shown
    choices = tuner.choices(works)
    print(f"{len(choices)} shapes with a choice of kernels, of {len(list(works))}; at most {seconds:g} s")
    print(f"{'default':<16}  {'best':<16}  {'microseconds':>14}  ratio  shape")
    found = {}
    with contextlib.suppress(KeyboardInterrupt):
        for work, row in tuner.tune(choices, tuner.Clock(), seconds):
            found[work] = row
            times = f"{row.default_seconds * 1e6:.1f} {row.seconds * 1e6:.1f}"
            ratio = row.default_seconds / row.seconds
            print(f"{shown(row.default):<16}  {shown(row.best):<16}  {times:>14}  {ratio:5.2f}  {work}", flush=True)
    if len(found) < len(choices):
        print(f"{len(choices) - len(found)} shapes are left as they were: there was no time for them")
    return found


def _clear() -> int:
    try:
        gone = backend.kernels("cuda._tuning").clear()
    except ImportError:  # without numba-cuda nothing can have been tuned
        gone = []
    for file in gone:
        print(f"deleted {file}")
    if not gone:
        print("there were no tables")
    return 0


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected an integer of at least 1, got {text!r}")
    return int(text)
