"""Where compiled CPU kernels are kept: a folder named by everything that can change the machine code.

The name is a hash of all CPU kernel sources, of the CPU that Numba compiles for, and of Python's, Numba's and
llvmlite's versions and flags: when any of them changes, the folder is another one.
"""

from __future__ import annotations

import hashlib
import pathlib
import sys

import llvmlite
import numba
from numba import config
from numba.core.registry import cpu_target

from ..codestore import CodeStore

_SOURCES = pathlib.Path(__file__).parent


def _stamp() -> str:
    digest = hashlib.sha256()
    for path in sorted(_SOURCES.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    cpu = cpu_target.target_context.codegen().magic_tuple()  # what Numba's own cache goes by
    versions = (numba.__version__, llvmlite.__version__, sys.version_info[:3])
    flags = (config.OPT, config.BOUNDSCHECK, config.LOOP_VECTORIZE, config.SLP_VECTORIZE)
    digest.update(repr((cpu, versions, flags)).encode())
    return digest.hexdigest()[:16]


_store = CodeStore("cpu", lambda: _stamp())
folder, size, clear, read, write = _store.folder, _store.size, _store.clear, _store.read, _store.write
