"""Which kernel computes a convolution's product, and with which tile: by card and shape, or as `nnk tune` measured.

    "ffma"       `_implicit_gemm.py`, `_wgrad.py`   strict float32, any shape, any card
    "winograd"   `_winograd.py`                     the same with fewer products: 3 × 3, stride 1, whole vectors
    "first-ffma" `_first_layer_strict.py`           up to four channels, not padded: a network's first layer
    "first"      `_first_layer.py`                  the same on tensor cores, 8.0 and newer; both have a `…_wgrad.py`
    "mma"        `_mma_gemm.py`, `_mma_wgrad.py`    mma.sync, any shape, compute capability 8.0 and newer (float16: 7.5)
    "wgmma"      `_wgmma_gemm.py`                   warpgroup products, 9.0; whole vectors of outputs
    "tma"        `_tma_gemm.py`, `_tma_wgrad.py`    the same fed by the copy engine, 9.0; windows that it can walk; the
                                                    gradient to the weight in 16 bits only

Without a measurement the fastest by design comes first: the copy engine where its steps of 128 bytes are mostly filled
by the channels of a tap, then warpgroups. Their tiles have 128 pixels and at least 64 outputs: products that would
leave most of such a tile empty begin with the small tiles of mma.sync. In strict float32 Winograd's algorithm comes
first where its fewer operations should be worth more than the memory it moves, `winograd_pays`. First layers go to
their own kernels wherever those can do them.

All candidates for a work multiply the same factors and sum in float32, but not always in the same order: with another
table the last bits may differ, never the precision. A process reads the table of a device once, so its results repeat.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from . import (
    _arithmetic,
    _first_layer,
    _first_layer_strict,
    _first_layer_strict_wgrad,
    _first_layer_wgrad,
    _implicit_gemm,
    _mma_gemm,
    _mma_wgrad,
    _patch,
    _tma_gemm,
    _tma_wgrad,
    _tuning,
    _wgmma_gemm,
    _wgrad,
    _winograd,
)
from ._layout import Array, blocks
from ._numba import SIMULATED
from ._operands import ROW, images, padded, weight_rows
from ._pack import pack
from ._tuning import Candidate, Row, Work
from ._window import Axis
from .launch import current_device

PRODUCTS = {"ffma": _implicit_gemm, "winograd": _winograd, "first-ffma": _first_layer_strict, "first": _first_layer,
            "mma": _mma_gemm, "wgmma": _wgmma_gemm, "tma": _tma_gemm}  # fmt: skip
WGRADS = {"ffma": _wgrad, "winograd": _winograd, "first-ffma": _first_layer_strict_wgrad, "first": _first_layer_wgrad,
          "mma": _mma_wgrad, "tma": _tma_wgrad}  # fmt: skip
STRICT_WEIGHTS = {"ffma": pack, "winograd": _winograd.pack, "first-ffma": pack}  # as these take them
HOPPER = (9, 0)
FILLED = 0.75  # of the bytes of a step, for the copy engine to come first
LEAST_PIXELS, LEAST_OUTPUTS = 64, 32  # of a tile that is worth a warpgroup
BALANCE = 20  # float32 operations that a card does while memory moves a byte: 67 TFLOP/s beside 3.35 TB/s on an H100
MARGIN = 1.2  # by which Winograd's algorithm should be faster, to come first

_tables: dict[int, dict[tuple, Candidate]] = {}
_lock = threading.Lock()
_seen: dict[Work, None] | None = None


def device() -> int:
    """The number of the device for which choices are made now."""
    return 0 if SIMULATED else current_device()


def choice(work: tuple, capability: tuple[int, int]) -> Candidate:
    """The rung and tile for a `Work` on the current device: the table's, else the first of `candidates`."""
    number = device()
    table = _tables.get(number)
    if table is None:
        table = load(number)
    if _seen is not None:
        _seen[Work(*work)] = None
    return table.get(work) or next(_candidates(capability, *work))


def candidates(work: Work, capability: tuple[int, int]) -> tuple[Candidate, ...]:
    """All rungs and tiles that can do this; the one that runs untuned is first."""
    return tuple(_candidates(capability, *work))


def _candidates(capability: tuple[int, int], kind: str, x_dtype, y_dtype, groups: int, x: tuple, y: tuple,
                window: tuple[Axis, Axis]) -> Iterator[Candidate]:
    itemsize = x_dtype.itemsize
    wide = x[0], groups * padded(x[1] // groups, itemsize), *x[2:]  # the copy that most tensor core kernels need
    if kind == "strict product":
        tiles = _first_layer_strict.tiles(x_dtype, x, y, groups, window)
        yield from (("first-ffma", tile) for tile in tiles)
        for rung in strict_rungs(x_dtype, y_dtype, groups, x, y[1], window):
            sizes = (itemsize,) if rung == "ffma" else ()
            yield from ((rung, tile) for tile in PRODUCTS[rung].tiles(*sizes, x, y, groups, window))
    elif kind == "strict wgrad":
        tiles = _first_layer_strict_wgrad.tiles(x_dtype, x, y, groups, window)
        yield from (("first-ffma", tile) for tile in tiles)
        for rung in strict_rungs(x_dtype, y_dtype, groups, x, y[0], window):
            yield from ((rung, tile) for tile in WGRADS[rung].wgrad_tiles(x, y, groups, window))
    elif kind == "wgrad":
        tiles = _first_layer_wgrad.tiles(capability, x_dtype, x, y, groups, window)
        yield from (("first", tile) for tile in tiles)
        for rung in wgrad_rungs(capability, itemsize, wide, y, groups, window):
            first = (capability, ) if rung == "mma" else ()
            yield from ((rung, tile) for tile in WGRADS[rung].tiles(*first, wide, y, groups))
    elif kind == "product":
        tiles = _first_layer.tiles(capability, x_dtype, y_dtype, x, y, groups, window)
        yield from (("first", tile) for tile in tiles)
        for rung in rungs(capability, itemsize, wide, y, groups, window):
            tiles = PRODUCTS[rung].tiles
            first = (capability, ) if rung == "mma" else ()
            yield from ((rung, tile) for tile in tiles(*first, wide, y, groups, window))
    else:
        raise ValueError(f"there is no kind of work called {kind!r}")


def operands(rung: str, x: Array, weight: Array, groups: int, window: tuple[Axis, Axis], transposed: bool,
             dtype: np.dtype | None, y_dtype: np.dtype) -> tuple[Array, Array]:
    """Channels-last images and a contiguous weight as a rung of `PRODUCTS` takes them, tensor cores as `dtype`."""
    if rung in STRICT_WEIGHTS:
        return x, STRICT_WEIGHTS[rung](weight, groups, window, transposed)
    if rung == "first":
        return x, _first_layer.weight_rows(weight, window, dtype, 16 // y_dtype.itemsize)
    return images(x, groups, dtype), weight_rows(weight, groups, window, transposed, dtype)


def wgrad_operands(rung: str, dy: Array, x: Array, groups: int, dtype: np.dtype | None) -> tuple[Array, Array]:
    """Both channels-last, as a rung of `WGRADS` takes them, tensor cores as `dtype`."""
    if rung in STRICT_WEIGHTS:
        return dy, x
    if rung == "first":
        return dy.astype(dtype, copy=False), x.astype(dtype, copy=False)
    return images(dy, groups, dtype), images(x, groups, dtype)


def rungs(capability: tuple[int, int], itemsize: int, x_shape: tuple, y_shape: tuple, groups: int,
          window: tuple[Axis, Axis]) -> tuple[str, ...]:
    """The rungs that can fill these pixels of y, channels padded to whole vectors, the likely fastest first."""
    if capability != HOPPER:
        return ("mma",)
    hopper = []
    if _wgmma_gemm.supports(itemsize, x_shape, y_shape, groups, window):
        hopper.append("wgmma")
    if _tma_gemm.supports(itemsize, x_shape, y_shape, groups, window):
        hopper.insert(0 if _fills(x_shape[1] // groups * itemsize) else 1, "tma")
    pixels, outputs = x_shape[0] * window[0].count * window[1].count, y_shape[1] // groups
    small = pixels < LEAST_PIXELS or outputs < LEAST_OUTPUTS
    return ("mma", *hopper) if small else (*hopper, "mma")


def wgrad_rungs(capability: tuple[int, int], itemsize: int, x_shape: tuple, weight_shape: tuple, groups: int,
                window: tuple[Axis, Axis]) -> tuple[str, ...]:
    """The same for the gradient to the weight."""
    if capability != HOPPER or not _tma_wgrad.supports(itemsize, x_shape, window):
        return ("mma",)
    large = weight_shape[0] // groups >= LEAST_OUTPUTS and _fills(x_shape[1] // groups * itemsize)
    return ("tma", "mma") if large else ("mma", "tma")


def strict_rungs(x_dtype: np.dtype, y_dtype: np.dtype, groups: int, x_shape: tuple, filters: int,
                 window: tuple[Axis, Axis]) -> tuple[str, ...]:
    """The same in strict float32, for a product of so many outputs or for the gradient to so many filters."""
    if not _winograd.supports(x_dtype, y_dtype, groups, x_shape[1], filters, window):
        return ("ffma",)
    return ("winograd", "ffma") if winograd_pays(x_shape, filters, window) else ("ffma", "winograd")


def winograd_pays(x_shape: tuple, filters: int, window: tuple[Axis, Axis]) -> bool:
    """Whether Winograd's algorithm should be faster by MARGIN than the direct sum: a calculation, not a measurement.

    In units of the time that memory takes for a byte, with T tiles of 2 × 2 for N pixels

        direct      18 N C K / BALANCE                                       hides its 4 (C + K) N bytes
        winograd    32 T C K / BALANCE + 128 T (C + K) + 4 N (C + K) + 164 C K

    as the numbers of V and M, or D, are written and read, 16 of 4 bytes for a tile, and those of the filters: 9 read,
    16 written and read. For K = C and even maps that is so from C = 206 on.
    """
    (images, channels), products = x_shape[:2], x_shape[1] * filters
    pixels, tiles = images * window[0].count * window[1].count, _winograd.tile_count(images, window)
    width = channels + filters
    winograd = 32 * tiles * products / BALANCE + 128 * tiles * width + 4 * pixels * width + 164 * products
    return 18 * pixels * products / BALANCE > MARGIN * winograd


def statistics_lots(rung: str, tile: tuple[int, ...], x_shape: tuple, window: tuple[Axis, Axis]) -> int:
    """How many lots of the output's pixels a rung leaves statistics of."""
    if rung == "winograd":
        return _winograd.lots(x_shape[0], window)
    if "first" in rung:
        return _patch.lots(x_shape, window, tile)
    return blocks(x_shape[0] * window[0].count * window[1].count, tile[0])


def _fills(size: int) -> bool:
    """Do the channels of a tap, so many bytes, fill most of their steps?"""
    return size >= FILLED * ROW * blocks(size, ROW)


def load(device: int, anew: bool = False) -> dict[tuple, Candidate]:
    """Make the table of a device the one in use, from disk at the first time or `anew`."""
    with _lock:
        if anew or device not in _tables:
            _tables[device] = {work: row.best for work, row in stored(device).items()}
        return _tables[device]


def stored(device: int) -> dict[Work, Row]:
    """The table of a device as it is on disk."""
    capability = _arithmetic.capability()
    return _tuning.read(_tuning.device_name(device), lambda work, one: one in candidates(work, capability))


@contextmanager
def recording() -> Iterator[dict[Work, None]]:
    """All that is chosen for within, in any thread, in order."""
    global _seen
    _seen = seen = {}
    try:
        yield seen
    finally:
        _seen = None
