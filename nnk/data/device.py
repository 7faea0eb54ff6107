"""Batches on a GPU: a data set that lies there, or batches on their way on a stream of their own."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np

from nnk import backend

from .datasets import ArrayDataset, channels_last

Sent = tuple[tuple[Any, ...], Any]  # arrays, and the event after which they hold their batch


class Resident:
    """The arrays of a data set, on the GPU: batches are taken and transformed there, and nothing has to travel."""

    def __init__(self, dataset: ArrayDataset):
        self.arrays = [backend.asarray_on(channels_last(array), "cuda") for array in dataset.arrays]
        self.transform = dataset.transform

    @staticmethod
    def fits(dataset: Any) -> bool:
        """Return whether a data set is one of arrays that take at most half of the memory that is free."""
        if not isinstance(dataset, ArrayDataset):
            return False
        import cupy

        free, _ = cupy.cuda.runtime.memGetInfo()
        return sum(array.nbytes for array in dataset.arrays) <= free // 2

    def batch(self, indices: Sequence[int] | np.ndarray) -> tuple[Any, ...]:
        """Samples ``indices`` as one fresh array per field, images in channels-last memory."""
        indices = backend.asarray_on(np.asarray(indices), "cuda")
        first, *rest = (_take(array, indices) for array in self.arrays)
        return (first if self.transform is None else self.transform(first), *rest)


def _take(array: Any, indices: Any) -> Any:
    if array.ndim != 4:
        return np.take(array, indices, axis=0)
    return np.take(array.transpose(0, 2, 3, 1), indices, axis=0).transpose(0, 3, 1, 2)


class Upload:
    """Host batches on their way to the GPU while that computes.

        loader's thread    send(batch)        pinned memory, a copy on the second stream, an event behind it
        training           receive(sent)      the stream that computes waits for that event; the host does not

    An array belongs to the second stream, in CuPy's pool too: when the training lets go of it, the next batch may get
    its memory, while kernels that read it are still queued. So before a copy the second stream waits for all that the
    first one was asked for until then, which is whatever used this memory.
    """

    def __init__(self) -> None:
        import cupy
        import cupyx

        self.cupy, self.empty_pinned = cupy, cupyx.empty_pinned
        self.device, self.computing = cupy.cuda.Device(), cupy.cuda.get_current_stream()
        self.stream = cupy.cuda.Stream(non_blocking=True)
        self.staged: deque[tuple[Any, list[np.ndarray]]] = deque()  # pinned memory, and when it has been read

    def send(self, batch: tuple[np.ndarray, ...]) -> Sent:
        """Queue the copy of a batch."""
        orders = [backend.memory_order(x) or tuple(range(x.ndim)) for x in batch]
        hosts = [x.transpose(order) for x, order in zip(batch, orders)]
        with self.device, self.stream:
            arrays = [self.cupy.empty(x.shape, x.dtype) for x in hosts]
            self.stream.wait_event(self.computing.record())  # after the memory was asked for, as the class says
            while self.staged and self.staged[0][0].done:
                self.staged.popleft()
            pinned = [self.empty_pinned(x.shape, x.dtype) for x in hosts]
            for array, stage, x in zip(arrays, pinned, hosts):
                stage[...] = x
                array.data.copy_from_host_async(stage.ctypes.data, stage.nbytes, self.stream)
            copied = self.stream.record()
        self.staged.append((copied, pinned))
        inverse = [np.argsort(order).tolist() for order in orders]
        return tuple(array.transpose(axes) for array, axes in zip(arrays, inverse)), copied

    def receive(self, sent: Sent) -> tuple[Any, ...]:
        """Return the batch to whom computes with it on the current stream."""
        arrays, copied = sent
        self.cupy.cuda.get_current_stream().wait_event(copied)
        return arrays
