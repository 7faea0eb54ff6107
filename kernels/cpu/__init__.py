"""The kernels for CPUs, in Numba: float32, parallel over all cores, images in channels-last memory.

Each file holds the functions of the file of the same name in `reference`. A leading underscore (and
`simd.py`) marks the machinery below them:

- `_driver.py`: one parallel loop that calls compiled kernels by address; the number of threads.
- `simd.py`: the vector type that kernels are written in.
- `_memory.py`: the pool that output blocks come from and return to.
- `_layout.py`: memory order of arrays, conversion to channels-last.

A kernel compiles when it is first called, never at import.
"""

from ..ops import expose

expose(__name__)
