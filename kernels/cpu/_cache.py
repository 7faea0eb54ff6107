"""Where compiled kernels are kept: a folder named by everything that can change the machine code.

The name is a hash of all CPU kernel sources, of the CPU that Numba compiles for, and of Python's, Numba's and
llvmlite's versions and flags: when any of them changes, the folder is another one. Each file begins with a hash of the
rest, so that one which was cut short or damaged counts as missing. It is written under a temporary name and renamed:
several processes may fill the folder at once, and one that dies leaves nothing half done.

The base is `NUMBA_CACHE_DIR` if set, else the user's cache folder. Where that cannot be written it is only read, and a
private folder under the temporary directory takes what is new. Folders unused for 30 days are deleted.
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
import warnings
from collections.abc import Iterator

import llvmlite
import numba
from numba import config
from numba.core.registry import cpu_target

_SOURCES = pathlib.Path(__file__).parent
_UNUSED_SECONDS = 30 * 24 * 3600
_DIGEST = hashlib.sha256().digest_size


def _stamp() -> str:
    digest = hashlib.sha256()
    for path in sorted(_SOURCES.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    cpu = cpu_target.target_context.codegen().magic_tuple()  # what Numba's own cache goes by
    versions = (numba.__version__, llvmlite.__version__, sys.version_info[:3])
    flags = (config.OPT, config.BOUNDSCHECK, config.LOOP_VECTORIZE, config.SLP_VECTORIZE)
    digest.update(repr((cpu, versions, flags)).encode())
    return digest.hexdigest()[:16]


# ---------------------------------------------------------------- places
def _user_cache() -> pathlib.Path:
    if sys.platform == "win32":
        return pathlib.Path(os.environ.get("LOCALAPPDATA") or pathlib.Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return pathlib.Path.home() / "Library" / "Caches"
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")


def _bases() -> Iterator[pathlib.Path]:
    if os.environ.get("NUMBA_CACHE_DIR"):
        yield pathlib.Path(os.environ["NUMBA_CACHE_DIR"]).absolute()
    else:
        with contextlib.suppress(RuntimeError):  # the user has no home
            yield _user_cache().absolute() / "nnk"
    with contextlib.suppress(OSError):  # there is no temporary directory
        temporary = pathlib.Path(tempfile.gettempdir()) / f"nnk-{os.getuid() if _OWNERS else getpass.getuser()}"
        if _is_private(temporary):
            yield temporary


_OWNERS = hasattr(os, "getuid")


def _is_private(path: pathlib.Path) -> bool:
    """Whether the folder is there, made if need be, and nobody but this user and root can plant machine code in it."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.stat()
    except OSError:
        return False
    return not _OWNERS or (found.st_uid in (0, os.getuid()) and not found.st_mode & 0o022)


@functools.cache
def _places() -> tuple[pathlib.Path, ...]:
    """The folders for these very sources, first the one that serves if it can be written."""
    name = "cpu-" + _stamp()
    places = tuple(base / name for base in _bases() if _is_private(base / name))
    for place in places:
        with contextlib.suppress(OSError):
            (place / "used").touch()
            _drop_stale(place)
    return places


def _drop_stale(current: pathlib.Path) -> None:
    for old in current.parent.glob("cpu-*"):
        with contextlib.suppress(OSError):
            if old != current and time.time() - (old / "used").stat().st_mtime > _UNUSED_SECONDS:
                shutil.rmtree(old)


def folder() -> pathlib.Path | None:
    """Where new code goes; None where no folder can be written."""
    return next((place for place in _places() if os.access(place, os.W_OK)), None)


def size() -> int:
    """Bytes of all compiled CPU kernels of this user, those of other sources and versions included."""
    return sum(f.stat().st_size for place in _places() for f in place.parent.glob("cpu-*/*"))


def clear() -> None:
    """Delete all compiled CPU kernels of this user."""
    for place in _places():
        for old in place.parent.glob("cpu-*"):
            shutil.rmtree(old, ignore_errors=True)
    _places.cache_clear()


# ---------------------------------------------------------------- files
def read(name: str) -> bytes | None:
    """The code kept under this name, or None."""
    for place in _places():
        with contextlib.suppress(OSError):
            content = (place / name).read_bytes()
            if hashlib.sha256(content[_DIGEST:]).digest() == content[:_DIGEST]:
                return content[_DIGEST:]
    return None


def write(name: str, code: bytes) -> None:
    """Keep code under this name; where that is impossible, warn."""
    try:
        place = folder()
        if place is None:
            raise OSError("no folder of this user's own can be written")
        place.mkdir(mode=0o700, exist_ok=True)  # somebody may have cleared the cache
        handle, part = tempfile.mkstemp(prefix="part-", dir=place)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(hashlib.sha256(code).digest() + code)
            os.replace(part, place / name)
        except OSError:
            os.unlink(part)
            raise
    except OSError as error:
        warnings.warn(f"compiled kernels are not kept, so the next start will compile them again: {error}. "
                      "NUMBA_CACHE_DIR names a folder for them", stacklevel=2)
