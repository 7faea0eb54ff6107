"""``nnk warmup``: kernels compile when they are first used and stay on disk; this fills that folder ahead."""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from nnk import backend

from .errors import CommandError

DTYPES = ("float32", "float16", "bfloat16")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--clear", action="store_true", help="delete all compiled kernels, of CPU and GPU, instead")
    parser.add_argument(
        "--cuda",
        nargs="?",
        const="",
        metavar="ARCH",
        help="compile for a GPU instead: the one here, or ARCH such as sm_90, for which no GPU need be there",
    )
    parser.add_argument(
        "--dtype", action="append", choices=DTYPES, help="with --cuda: of which arrays (default: float32); repeatable"
    )


def run(args: argparse.Namespace) -> int:
    """Compile what is missing, or delete what is there, and say where."""
    if args.clear:
        return _clear()
    if args.cuda is None:
        if args.dtype:
            raise CommandError("--dtype goes with --cuda: CPU kernels are float32")
        warm = backend.kernels("cpu._warm")
        return _fill(backend.kernels("cpu._cache"), warm.every(), warm.missing(), warm.warm)
    warm, wanted = _cuda_kernels(), (_capability(args.cuda), args.dtype or ["float32"])
    store = backend.kernels("cuda.launch").store
    return _fill(store, warm.every(*wanted), warm.missing(*wanted), lambda report: warm.warm(report, *wanted))


def _fill(store: Any, every: list, missing: list, warm: Callable) -> int:
    folder = store.folder()
    if folder is None:
        raise CommandError("no folder can be written by this user alone: name one with NUMBA_CACHE_DIR", 1)
    start = time.perf_counter()
    with _progress(len(missing)) as report:
        warm(report)
    if missing:
        print(f"{len(missing)} of {len(every)} kernels compiled in {time.perf_counter() - start:.1f} s")
    else:
        print(f"all {len(every)} kernels were compiled already")
    print(f"kept in {folder} ({_megabytes(_size(folder))})")
    return 0


def _clear() -> int:
    stores = [backend.kernels("cpu._cache")]
    with contextlib.suppress(ImportError):  # without numba-cuda there are no GPU kernels
        stores.append(backend.kernels("cuda.launch").store)
    freed = sum(store.size() for store in stores)
    for store in stores:
        store.clear()
    print(f"compiled kernels deleted, {_megabytes(freed)}" if freed else "there were no compiled kernels")
    return 0


def _cuda_kernels() -> Any:
    try:
        return backend.kernels("cuda._warm")
    except ImportError as error:
        raise CommandError(f"kernels for GPUs cannot be compiled: {error}") from error


def _capability(name: str) -> tuple[int, int]:
    """(9, 0) from sm_90; that of the GPU here from nothing."""
    found = re.fullmatch(r"(?:sm_)?(\d+)\.?(\d)a?", name)
    if found:
        return int(found[1]), int(found[2])
    if name:
        raise CommandError(f"--cuda is {name!r}, expected an architecture such as sm_90")
    problem = backend.cuda_problem()
    if problem:
        raise CommandError(f"there is no GPU to compile for, name one as in --cuda sm_90: {problem}")
    return backend.kernels("cuda._warm").capability_here()


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
