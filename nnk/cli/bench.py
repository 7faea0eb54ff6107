"""Measure the kernels against this machine and other libraries; the benches' own options follow."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import nnk

from .errors import CommandError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options: whatever the benches take."""
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...", help="passed on to the benches")


def run(args: argparse.Namespace) -> int:
    """Run the benches of the checkout that nnk is installed from."""
    checkout = Path(nnk.__file__).resolve().parents[1]
    if not (checkout / "bench" / "__main__.py").is_file():
        raise CommandError(
            "the benches come with nnk's repository, not with an installed package: clone it, install it with "
            "python -m pip install -e . and run nnk bench again"
        )
    return subprocess.run([sys.executable, "-m", "bench", *args.arguments], cwd=checkout, check=False).returncode
