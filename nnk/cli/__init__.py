"""The command ``nnk``."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence

from . import activations, bench, doctor, show, train, tune, warmup
from .errors import CommandError

__all__ = ["main"]

COMMANDS = {
    "train": (train, "train a network on a data set, and keep the run in a folder"),
    "show": (show, "draw what augmentations do to the images of a data set"),
    "activations": (activations, "show what weights do to a deep network: statistics and histograms of its layers"),
    "bench": (bench, "measure the kernels against this machine and PyTorch"),
    "doctor": (doctor, "show what nnk finds on this machine, and check every operation"),
    "tune": (tune, "measure which kernels and tiles are fastest on this GPU, and keep the table for all runs"),
    "warmup": (warmup, "compile all CPU kernels for this machine ahead, so that no run has to wait for them"),
}


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str):
        self.exit(2, f"{self.prog}: error: {message}\n")


class _Version(argparse.Action):
    """Looks the version up only when it is asked for."""

    def __call__(self, parser, namespace, values, option_string=None):
        import nnk

        print(f"nnk {nnk.__version__}")
        parser.exit()


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code: 0, 1 for a failure, 2 for a mistake in what was asked."""
    parser = _parser()
    args, args.rest = parser.parse_known_args(argv)
    if args.command is None and not args.rest:
        parser.print_help()
        return 2
    if args.rest and args.command != "bench":
        parser.error(f"unrecognized arguments: {' '.join(args.rest)}")
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _one_line
            return args.run(args)
    except CommandError as error:
        print(f"nnk {args.command}: error: {error}", file=sys.stderr)
        return error.code
    except KeyboardInterrupt as interrupt:
        print(f"nnk {args.command}: {interrupt or 'interrupted'}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read the output has gone (`nnk doctor | head`); Python's flush at exit would complain again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _one_line(message: Warning | str, *where: object) -> None:
    print(f"nnk: warning: {message}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="nnk", description="Train convolutional networks with handwritten Numba kernels.")
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(dest="command", metavar="command", title="commands")
    for name, (module, summary) in COMMANDS.items():
        command = commands.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            add_help=name != "bench",  # whose help is that of the benches
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser
