"""Where compiled kernels are kept: a folder named by everything that can change the machine code.

Numba keys a cached function by the text of its own file; an edit in an imported file would go unseen. Here the folder's
name is a hash of all CPU kernel sources and of Numba's, llvmlite's and Python's versions and flags (the CPU itself is
in Numba's own key), so that a changed source means an empty folder. Numba writes each file under a temporary name and
renames it, so several processes may fill the folder at once.

The base is `NUMBA_CACHE_DIR` if set, else the user's cache folder, else a private folder under the temporary directory.
Folders unused for 30 days are deleted.
"""

from __future__ import annotations

import contextlib
import functools
import getpass
import hashlib
import os
import pathlib
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator

import llvmlite
import numba
from numba import config

_SOURCES = pathlib.Path(__file__).parent
_UNUSED_SECONDS = 30 * 24 * 3600


def _stamp() -> str:
    digest = hashlib.sha256()
    for path in sorted(_SOURCES.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    flags = (config.OPT, config.CPU_NAME, config.CPU_FEATURES, config.BOUNDSCHECK)
    digest.update(repr((numba.__version__, llvmlite.__version__, sys.version_info[:3], flags)).encode())
    return digest.hexdigest()[:16]


def _base() -> pathlib.Path:
    if os.environ.get("NUMBA_CACHE_DIR"):
        return pathlib.Path(os.environ["NUMBA_CACHE_DIR"])
    if sys.platform == "win32":
        home = os.environ.get("LOCALAPPDATA") or pathlib.Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        home = pathlib.Path.home() / "Library" / "Caches"
    else:
        home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(home) / "nnk"


def _is_private(path: pathlib.Path) -> bool:
    """Whether the folder can be made or used, and nobody else can plant machine code in it."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = path.stat()
    except OSError:
        return False
    if hasattr(os, "getuid") and (owner.st_uid != os.getuid() or owner.st_mode & 0o022):
        return False
    return os.access(path, os.W_OK)


@functools.cache
def folder() -> pathlib.Path:
    """The folder of these very sources (created on first use)."""
    name = "cpu-" + _stamp()
    path = _base().absolute() / name
    if not _is_private(path):
        user = os.getuid() if hasattr(os, "getuid") else getpass.getuser()
        path = pathlib.Path(tempfile.gettempdir()) / f"nnk-{user}" / name
        if not _is_private(path.parent) or not _is_private(path):
            raise OSError(f"no private folder for compiled kernels: neither {_base()} nor {path.parent} can be written "
                          "by this user alone; set NUMBA_CACHE_DIR to a folder of your own")
    (path / "used").touch()
    _drop_stale(path.parent, keep=path)
    return path


def _drop_stale(base: pathlib.Path, keep: pathlib.Path) -> None:
    for old in base.glob("cpu-*"):
        with contextlib.suppress(OSError):
            if old != keep and time.time() - (old / "used").stat().st_mtime > _UNUSED_SECONDS:
                shutil.rmtree(old)


def clear() -> None:
    """Delete all compiled CPU kernels of this user."""
    for old in folder().parent.glob("cpu-*"):
        shutil.rmtree(old, ignore_errors=True)
    folder.cache_clear()


@contextlib.contextmanager
def active() -> Iterator[None]:
    """Functions that Numba decorates with `cache=True` inside keep their code in `folder()`."""
    before = config.CACHE_DIR
    config.CACHE_DIR = str(folder())
    try:
        yield
    finally:
        config.CACHE_DIR = before
