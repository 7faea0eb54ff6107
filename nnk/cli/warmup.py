"""``nnk warmup``: kernels compile when they are first used and stay on disk; this fills that folder ahead."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from nnk import backend

from .errors import CommandError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--clear", action="store_true", help="delete all compiled CPU kernels instead")


def run(args: argparse.Namespace) -> int:
    """Compile what is missing, or delete what is there, and say where."""
    cache, warm = backend.kernels("cpu._cache"), backend.kernels("cpu._warm")
    folder = cache.folder()
    if args.clear:
        freed = cache.size()
        cache.clear()
        print(f"compiled kernels deleted, {_megabytes(freed)}" if freed else "there were no compiled kernels")
        return 0
    if folder is None:
        raise CommandError("no folder can be written by this user alone: name one with NUMBA_CACHE_DIR", 1)
    total, todo = len(warm.every()), len(warm.missing())
    start = time.perf_counter()
    with _progress(todo) as report:
        warm.warm(report)
    if todo:
        print(f"{todo} of {total} kernels compiled in {time.perf_counter() - start:.1f} s")
    else:
        print(f"all {total} kernels were compiled already")
    print(f"kept in {folder} ({_megabytes(_size(folder))})")
    return 0


@contextlib.contextmanager
def _progress(total: int) -> Iterator[Callable[[str], None]]:
    """A bar on a terminal, else lines."""
    if sys.stdout.isatty() and total:
        from tqdm import tqdm

        with tqdm(total=total, desc="compiling", unit="kernel", file=sys.stdout, leave=False) as bar:
            yield lambda name: bar.set_postfix_str(name, refresh=False) or bar.update()
        return
    done: list[str] = []

    def report(name: str) -> None:
        done.append(name)
        print(f"{len(done)}/{total}  {name}", flush=True)

    yield report


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
