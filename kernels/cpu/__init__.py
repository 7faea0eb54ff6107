"""The kernels for CPUs, in Numba: float32, parallel over all cores, images in channels-last memory.

Each file holds the functions of the file of the same name in `reference`. What they stand on (a leading
underscore, and `simd.py`), from the bottom up:

- `_driver.py`: kernels as jobs, and the parallel loop that calls them by address; `_thread.py`: which Python threads it
  spreads over the cores; `_compile.py`: how they become
  machine code; `_cache.py`: where that is kept.
- `_memory.py`: the pool that outputs come from and return to; `_layout.py`: the memory order of arrays.
- `simd.py`: the vector type that kernels are written in; `_math.py` its exp, log and tanh, `_philox.py` its
  random numbers.
- `_blocks.py`, `_rows.py`, `_tensors.py`, `_reduce.py`: how memory-bound kernels walk an array, its channels,
  the parameters of a model, and sums over rows.
- `_stream.py`: large results written past the caches.
- `_batchnorm.py`: statistics of a batch and sums for its gradients.
- `_tile.py`: register tiles; `_pack.py` the weights that they read; `_direct.py`, `_wgrad.py`, `_depthwise.py`
  convolution with them; `_transform.py`, `_winograd.py`, `_winograd_wgrad.py` with fewer products.

A kernel compiles when it is first called, never at import.
"""

from ..ops import expose

expose(__name__)
