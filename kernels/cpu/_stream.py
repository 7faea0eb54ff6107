"""Results written past the caches, where they are too large to stay there until somebody reads them.

A store into a cache first reads the line that it changes. A kernel that overwrites whole lines can do without: a pass
over one input then moves 8 bytes an element in place of 12, over two inputs 12 in place of 16.
"""

from __future__ import annotations

import numpy as np

from ._compile import inner
from ._driver import address
from .simd import L, vstore_n, vstream

_CACHE = 1 << 24  # bytes: half of a usual last-level cache


def streams(y: np.ndarray, width: int = L) -> bool:
    """Whether a kernel that writes y in rows of `width` floats had better do so past the caches.

    It takes whole vectors at aligned addresses.
    """
    return y.nbytes >= _CACHE and width % L == 0 and y.size % L == 0 and address(y) % (4 * L) == 0


@inner
def put(p, i, v, n, past_caches):
    """n lanes to p[i], past the caches where `streams` says so; the kernel ends with `vstreamed` then."""
    if past_caches:
        vstream(p, i, v)
    else:
        vstore_n(p, i, v, n)
