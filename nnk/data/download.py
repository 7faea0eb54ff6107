"""Files from the web: taken up where they were cut off, checked, and never half-written under their name."""

from __future__ import annotations

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

TRIES = 3
TIMEOUT = 30.0  # seconds without a byte
CHUNK = 1 << 18


class DataError(RuntimeError):
    """A file of a data set is missing, damaged or cannot be had; the message names it and says what to do."""


@dataclass(frozen=True)
class Remote:
    """A file on the web: its address, the MD5 sum that its publishers give, and its name on disk."""

    url: str
    md5: str

    @property
    def name(self) -> str:
        """The last part of the address."""
        return self.url.rpartition("/")[2]


def download(remote: Remote, folder: str | Path) -> Path:
    """Return ``folder / remote.name``, downloading the file first if it is not there.

    Bytes gather in ``<name>.part``, which becomes the file when its MD5 sum is right. A transfer that breaks off is
    taken up again, in this call or the next, by an HTTP range. A bar shows the progress on a terminal.

    Raises:
        DataError: no connection, an error of the server, too few bytes after some tries, or a wrong MD5 sum.
    """
    folder = Path(folder)
    path, part = folder / remote.name, folder / f"{remote.name}.part"
    if path.exists():
        return path
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _gather(remote.url, part)
        found = _md5(part)
        if found != remote.md5:
            part.unlink()
            raise DataError(
                f"{remote.url} is not the file it should be: its MD5 sum is {found}, expected {remote.md5}. What came "
                f"was deleted; try again, or put the right file at {path}"
            )
        os.replace(part, path)
    except OSError as error:
        raise DataError(f"cannot write {path}: {error}") from error
    return path


def _gather(url: str, part: Path) -> None:
    """Add to ``part`` until all is there."""
    for attempt in range(TRIES):
        try:
            _transfer(url, part)
            return
        except (_Broken, urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            status = getattr(error, "code", None)
            if status is not None and status < 500:
                raise DataError(f"cannot download {url}: the server says {status} {error.reason}") from error
            if attempt == TRIES - 1:
                have = part.stat().st_size if part.exists() else 0
                raise DataError(
                    f"cannot download {url}: {error}. {have} bytes are kept in {part}; try again to go on from there"
                ) from error


class _Broken(Exception):
    """A transfer ended early."""


def _transfer(url: str, part: Path) -> None:
    from tqdm import tqdm

    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # nothing follows: it is complete, or the MD5 sum will tell
            return
        raise
    with response:
        if response.status != 206:  # a server that knows no ranges sends everything
            have = 0
        length = response.headers.get("Content-Length")
        total = None if length is None else have + int(length)
        name = part.name.removesuffix(".part")
        with (
            open(part, "ab" if have else "wb") as file,
            tqdm(total=total, initial=have, desc=name, unit="B", unit_scale=True, leave=False, disable=None) as bar,
        ):
            while chunk := response.read(CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
            file.flush()
            os.fsync(file.fileno())
    size = part.stat().st_size
    if total is not None and size < total:
        raise _Broken(f"the connection broke off after {size} of {total} bytes")


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
