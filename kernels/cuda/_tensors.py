"""How one launch goes over all tensors of a model: in chunks of CHUNK elements, a block each, numbered through.

    tensors       ┌─ 5000 ─┐ ┌7┐ ┌2048┐
    blocks        0   1   2   3    4         chunks[2 b], chunks[2 b + 1]: block b's tensor, its chunk's number therein
    table[k count + t]: tensor t of list k   sizes[t]: its elements

A block reads which tensor is its own and where that lies, then each of its threads takes EACH elements of every list,
all loads before the first use: 32 bytes of each list of float32 are under way in every thread.

The chunks depend on the sizes alone, the table on addresses, which change where gradients are new arrays. Both are
made on the host, once, and kept on the device by those numbers; they hold no array alive. The same addresses mean the
same table, whatever arrays are there. What was used while a CUDA graph was captured is kept for good, as the graph's
replays read it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ._layout import Array
from ._memory import address, xp
from ._numba import SIMULATED, cuda, device
from .launch import I32, I64, INT, TABLE
from .ptx import lanes, load, load_vector, store, store_vector

THREADS, EACH, WIDEST = 256, 8, 8
UNROLL = 2  # rows of a thread's registers for one list: vectors of 4 floats, of which 8 elements take two
CHUNK = THREADS * EACH
KEPT = 64  # tables that are kept, besides those of graphs

Arrays = Sequence[Array]

WALK = {"table": TABLE, "chunks": I32, "sizes": I64, "count": INT, "aligned": INT}
"""The first arguments of a kernel that goes over tensors."""


# ---------------------------------------------------------------- inside kernels
@device
def chunk_of_block(chunks, sizes, length):
    """The block's tensor, its first element of it where chunks have this length, the tensor's size."""
    tensor, number = chunks[2 * cuda.blockIdx.x], chunks[2 * cuda.blockIdx.x + 1]
    return tensor, np.int64(number) * length, sizes[tensor]


@device
def fetch(held, x, start, n, aligned):
    """This thread's EACH elements of a chunk into registers; those from n on are not touched."""
    width = lanes(x)
    for u in range(EACH // width):
        i = start + (u * THREADS + cuda.threadIdx.x) * width
        if aligned and i + width <= n:
            load_vector(held[u], x, i)
        else:
            for lane in range(width):
                if i + lane < n:
                    held[u, lane] = load(x, i + lane)


@device
def keep(x, held, start, n, aligned):
    """The same elements from registers to memory."""
    width = lanes(x)
    for u in range(EACH // width):
        i = start + (u * THREADS + cuda.threadIdx.x) * width
        if aligned and i + width <= n:
            store_vector(x, i, held[u])
        else:
            for lane in range(width):
                if i + lane < n:
                    store(x, i + lane, held[u, lane])


# ---------------------------------------------------------------- calls
class Table(NamedTuple):
    """Pointers to arrays of one dtype, as a kernel's TABLE: addresses on the device; the arrays, in the simulator."""

    dtype: np.dtype
    data: Any
    arrays: list[Array | None]


def walks(*lists: Arrays | None, length: int = CHUNK) -> Iterator[tuple[int, tuple]]:
    """For lists of dense arrays, list by list of the same shapes: blocks, and the arguments WALK, per dtype in use.

    A list that is None gives null pointers. A block takes `length` elements.
    """
    for some in of_one_dtype(*lists):
        sizes = tuple([x.size for x in some[0]])
        blocks, chunks, sizes_there = numbered(sizes, tuple([-(-size // length) for size in sizes]))
        the_table, aligned = table(*some)
        yield blocks, (the_table, chunks, sizes_there, len(sizes), aligned)


def of_one_dtype(*lists: Arrays | None) -> Iterator[Sequence[Arrays | None]]:
    """The lists; or, where the arrays of the first have several dtypes, those of each dtype."""
    numbers: dict[np.dtype, list[int]] = {}
    for number, x in enumerate(lists[0]):
        numbers.setdefault(x.dtype, []).append(number)
    if len(numbers) == 1:
        yield lists
    else:
        for some in numbers.values():
            yield [None if xs is None else [xs[i] for i in some] for xs in lists]


def numbered(sizes: tuple[int, ...], parts: tuple[int, ...]) -> tuple[int, Array, Array]:
    """Of tensors in so many parts: all parts; for each its tensor and its number within; the sizes, on the device."""

    def make() -> np.ndarray:
        firsts = np.cumsum((0, *parts[:-1]))
        tensors = np.repeat(np.arange(len(parts)), parts)
        pairs = np.stack([tensors, np.arange(total) - firsts[tensors]], axis=1).astype(np.int32)
        return np.concatenate([np.asarray(sizes, np.int64), pairs.reshape(-1).view(np.int64)])

    total = sum(parts)
    both = uploaded(("chunks", sizes, parts), make)
    return total, both[len(sizes) :].view(np.int32), both[: len(sizes)]


def table(*lists: Arrays | None) -> tuple[Table, bool]:
    """The addresses of all arrays, list by list; whether all are multiples of 16."""
    arrays = [x for xs in lists for x in xs or [None] * len(lists[0])]
    places = tuple([0 if x is None else address(x) for x in arrays])
    aligned = not any([place & 15 for place in places])
    if SIMULATED:
        return Table(arrays[0].dtype, None, arrays), aligned
    data = uploaded(("addresses", places), lambda: np.asarray(places, np.int64)).data
    return Table(arrays[0].dtype, data, []), aligned


class _Upload(NamedTuple):
    array: Array
    pinned: Any  # the host's side of the copy, alive until that has run
    copied: Any  # the event after it


_recent: OrderedDict[tuple, _Upload] = OrderedDict()
_captured: dict[tuple, _Upload] = {}  # copied before a graph came to read them
_of_graphs: list[_Upload] = []  # copied by the graph itself, whenever it is launched
_lock = threading.Lock()


def uploaded(key: tuple, make: Callable[[], np.ndarray]) -> Array:
    """The device's copy of what make() gives, int64: the same for the same key, made when first asked for.

    The copy is queued on the current stream, from pinned memory: nobody waits. Another stream has a copy of its own.
    """
    if SIMULATED:
        return make()
    cupy = xp()
    stream = cupy.cuda.get_current_stream()
    key = (cupy.cuda.runtime.getDevice(), stream.ptr, *key)
    capturing = bool(stream.ptr) and stream.is_capturing()
    with _lock:
        upload = _captured.get(key) or _recent.pop(key, None)
        if upload is None:
            upload = _upload(make(), stream, capturing)
            if capturing:  # nobody else may read it: the capture can yet fail
                _of_graphs.append(upload)
                return upload.array
        if capturing or key in _captured:
            _captured[key] = upload
            return upload.array
        _recent[key] = upload
        if len(_recent) > KEPT:
            # The pinned memory goes back to CuPy, who may hand it out while an old copy has yet to read it.
            _recent.popitem(last=False)[1].copied.synchronize()
        return upload.array


def _upload(host: np.ndarray, stream: Any, capturing: bool) -> _Upload:
    cupy = xp()
    array = cupy.empty(host.shape, host.dtype)
    pinned = cupy.cuda.alloc_pinned_memory(max(1, host.nbytes))
    np.frombuffer(pinned, host.dtype, host.size)[...] = host
    array.data.copy_from_host_async(pinned.ptr, host.nbytes, stream)
    return _Upload(array, pinned, None if capturing else stream.record())
