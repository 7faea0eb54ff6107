"""The numerical kernels of nnk: the same functions written three times.

- `reference`: NumPy, any float dtype, written to be read. It says what is right.
- `cpu`: Numba, float32, parallel over all cores.
- `cuda`: Numba for NVIDIA GPUs.

`ops` lists every operation with its functions, test cases and bench shapes; `shapes` holds the arithmetic
of output sizes; `parity` says how close a backend must come to the reference. Kernels do not check their
arguments: the modules of nnk do, before they call.
"""
