"""Where compiled kernels are kept: a folder named by everything that can change the machine code.

Each file begins with a hash of the rest, so that one which was cut short or damaged counts as missing. It is written
under a temporary name and renamed: several processes may fill the folder at once, and one that dies leaves nothing half
done.

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
from collections.abc import Callable, Iterator

_UNUSED_SECONDS = 30 * 24 * 3600
_DIGEST = hashlib.sha256().digest_size
_OWNERS = hasattr(os, "getuid")


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


def _is_private(path: pathlib.Path) -> bool:
    """Whether the folder is there, made if need be, and nobody but this user and root can plant machine code in it."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.stat()
    except OSError:
        return False
    return not _OWNERS or (found.st_uid in (0, os.getuid()) and not found.st_mode & 0o022)


class CodeStore:
    """The compiled kernels of one backend, `kind`; `stamp()` names what they depend on."""

    def __init__(self, kind: str, stamp: Callable[[], str]):
        self.kind, self.stamp = kind, stamp
        self.places = functools.cache(self._find_places)

    def _find_places(self) -> tuple[pathlib.Path, ...]:
        """The folders for these very sources, first the one that serves if it can be written."""
        name = f"{self.kind}-{self.stamp()}"
        places = tuple(base / name for base in _bases() if _is_private(base / name))
        for place in places:
            with contextlib.suppress(OSError):
                (place / "used").touch()
                self._drop_stale(place)
        return places

    def _drop_stale(self, current: pathlib.Path) -> None:
        for old in current.parent.glob(f"{self.kind}-*"):
            with contextlib.suppress(OSError):
                if old != current and time.time() - (old / "used").stat().st_mtime > _UNUSED_SECONDS:
                    shutil.rmtree(old)

    def folder(self) -> pathlib.Path | None:
        """Where new code goes; None where no folder can be written."""
        return next((place for place in self.places() if os.access(place, os.W_OK)), None)

    def size(self) -> int:
        """Bytes of all compiled kernels of this kind and user, those of other sources and versions included."""
        return sum(f.stat().st_size for place in self.places() for f in place.parent.glob(f"{self.kind}-*/*"))

    def clear(self) -> None:
        """Delete all compiled kernels of this kind and user."""
        for place in self.places():
            for old in place.parent.glob(f"{self.kind}-*"):
                shutil.rmtree(old, ignore_errors=True)
        self.places.cache_clear()

    def read(self, name: str) -> bytes | None:
        """The code kept under this name, or None."""
        for place in self.places():
            with contextlib.suppress(OSError):
                content = (place / name).read_bytes()
                if hashlib.sha256(content[_DIGEST:]).digest() == content[:_DIGEST]:
                    return content[_DIGEST:]
        return None

    def write(self, name: str, code: bytes) -> None:
        """Keep code under this name; where that is impossible, warn."""
        try:
            place = self.folder()
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
