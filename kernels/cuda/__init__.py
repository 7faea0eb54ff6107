"""The kernels for NVIDIA GPUs, in Numba CUDA: float32, float16 and bfloat16 in memory, float32 arithmetic.

Gradients to parameters beside 16-bit images are float32: those of convolutions and linear layers always, others where
the parameter is.

Each file holds the functions of the file of the same name in `reference`; arrays are CuPy's. What they stand on (a
leading underscore, `ptx.py` and `launch.py`), from the bottom up:

- `_numba.py`: what is taken from numba-cuda, whichever version; `ptx.py`: the machine's own instructions, each with its
  emulation for the simulator; `_emulation.py`: pointers and warps there; `_math.py`: elementary functions.
- `launch.py`: kernels, how they become machine code (`_link.py`), and launches of about 2 µs.
- `_memory.py`, `_layout.py`: arrays and their memory order.
- `_pointwise.py`: how elementwise kernels walk memory; `_reduce.py`: sums over warps and blocks; `_philox.py`: random
  words; `_channel_sums.py`: sums over pixels; `_pixels.py`, `_pooling.py`, `_max_pooling.py`, `_average_pooling.py`:
  windows over images; `_losses.py`, `_loss_rows.py`: losses.
- `_tensors.py`: one launch over all tensors of a model; `_gradient.py`: what optimisers do to a gradient first;
  `_loss_scale.py`: float16's; `_slots.py`: numbers for captured graphs.
- `_rows.py`: how kernels walk memory whose channels have numbers of their own; `_moments.py`, `_batchnorm.py`: means,
  variances, and sums for gradients, in strips whose results are joined.
- `_window.py`, `_pack.py`: convolutions and weights as a GEMM sees them; `_arithmetic.py`: in which arithmetic it is.
- Strict float32: `_ffma.py`, the inner product; `_implicit_gemm.py`, `_wgrad.py`, the convolutions; `_winograd.py` and
  `_winograd_transforms.py`, those of 3 × 3 with fewer products.
- One channel a group: `_depthwise.py`, `_depthwise_square.py`, `_depthwise_wgrad.py`, `_depthwise_taps.py`.
- Tensor cores: `ptx_mma.py`, their instructions and asynchronous copies; `_operands.py`, `_gather.py`, images and
  weights as they are fed; `_mma_gemm.py`, `_mma_wgrad.py`, the convolutions; `_column_moments.py`, statistics of what
  these and those of strict float32 write.
- Up to four channels: `_patch.py`, what a tile meets of the image; `_first_layer.py`, `_first_layer_wgrad.py`, on
  tensor cores, `_first_layer_strict.py`, `_first_layer_strict_wgrad.py`, in strict float32.
- Hopper: `ptx_wgmma.py`, `ptx_tma.py`, warpgroup products and bulk copies; `_tensor_map.py`, what the copy engine knows
  of a tensor; `_wgmma_rows.py`, how sums are written; `_wgmma_gemm.py`, `_tma_gemm.py`, `_tma_wgrad.py`, the
  convolutions.
- `_chooser.py`: which of these kernels; `_tuner.py`, `_tuning.py`: which is fastest by measurement, and the table.

A kernel compiles when it is first called, never at import. With NUMBA_ENABLE_CUDASIM=1 all of this runs without a GPU,
on NumPy arrays, in Numba's simulator: for tests.
"""

from ..ops import expose

expose(__name__)

ROUNDOFFS = {"high": 2.0**-11, "medium": 2.0**-9}
"""The relative error with which tensor cores take a factor of float32 products, by precision: TF32 and bfloat16."""
