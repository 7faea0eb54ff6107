"""``nnk bench``: the benches of the checkout, for which this is only the way in."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import nnk

from .errors import CommandError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options: none, the benches have their own."""


def run(args: argparse.Namespace) -> int:
    """Run the benches of the checkout that nnk is installed from, with all arguments."""
    benches = Path(nnk.__file__).resolve().parents[1] / "bench"
    if not (benches / "__main__.py").is_file():
        raise CommandError(
            "the benches come with nnk's repository, not with an installed package: clone it, install it with "
            "python -m pip install -e . and run nnk bench again"
        )
    return subprocess.run([sys.executable, str(benches), *args.rest], check=False).returncode
