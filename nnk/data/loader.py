"""Batches of a data set, made ahead of the step by a background thread."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from nnk import backend, random
from nnk.nn.arguments import integer

from .augment import Step, augment
from .datasets import Dataset, channels_last
from .device import Resident, Upload

THREAD_NAME = "nnk-loader"


class DataLoader:
    """Iterate over a data set in batches, each a tuple of arrays with the samples along the first axis.

    The order of epoch e is a permutation drawn from (seed, e) alone, and what augmentations do to a sample is drawn
    from (seed, e, sample): an epoch can be repeated, and entered in the middle, without any state. ``for batch in
    loader`` runs through epoch 0, then 1, …; `batches` gives any.

    A background thread, on one core, keeps ``prefetch`` batches ready. It lives as long as the iteration, ends with it
    however that ends, and its exceptions are raised in the consumer at the batch they belong to. Every batch is
    made of new arrays and is the consumer's to keep.

    Args:
        dataset: samples by index (`Dataset`); each sample is an array or number, or a tuple of them.
        batch_size: samples per batch.
        shuffle: a new order every epoch.
        drop_last: leave out a last batch that is smaller than ``batch_size``.
        seed: seed of shuffling and augmentation; None draws one from the generator of `nnk.manual_seed`.
        prefetch: batches kept ready; 0 makes each batch when it is asked for, in the consumer's thread.
        augment: steps that change each batch as it comes from the data set, one after the other: augmentations
            (`RandomCrop`, `MixUp`, …) and functions of a batch of images (`Normalize`, …). The images become float32.
        device: "cpu" (or None), or "cuda" for batches on the GPU. An `ArrayDataset` that takes at most half of the free
            memory there is brought once, and transformed and augmented there, by whoever iterates; its transform and
            functions get arrays of the GPU. Batches of others are made on the CPU, ahead of the step, and copied while
            the GPU computes.

    Raises:
        TypeError: ``dataset`` has no length or no index, ``batch_size``, ``prefetch`` or ``seed`` is no int, or
            ``augment`` is no sequence of what can be called.
        ValueError: ``batch_size`` below 1, ``prefetch`` or ``seed`` below 0, another ``device``.
        RuntimeError: "cuda" where no GPU can be used.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int = 1,
        shuffle: bool = False,
        *,
        drop_last: bool = False,
        seed: int | None = None,
        prefetch: int = 2,
        augment: Sequence[Step] = (),
        device: str | None = None,
    ):
        if not isinstance(dataset, Dataset):
            raise TypeError(f"dataset is a {type(dataset).__name__}, expected __len__ and __getitem__")
        self.dataset = dataset
        self.batch_size = integer(batch_size, "batch_size", least=1)
        self.shuffle = bool(shuffle)
        self.drop_last = bool(drop_last)
        if not isinstance(augment, Iterable):
            raise TypeError(f"augment is a {type(augment).__name__}, expected a sequence of steps")
        self.augment = tuple(augment)
        for step in self.augment:
            if not callable(step):
                raise TypeError(f"augment holds a {type(step).__name__}, expected augmentations or functions of images")
        if seed is None:
            seed = random.generator().integers(2**63) if shuffle or self.augment else 0
        self.seed = integer(seed, "seed", least=0)
        self.prefetch = integer(prefetch, "prefetch", least=0)
        self.device = backend.check_device(device)
        self.epoch = 0
        self._source: Any = dataset  # where batches are taken from

    def __len__(self) -> int:
        """Batches per epoch."""
        full, rest = divmod(len(self.dataset), self.batch_size)
        return full if self.drop_last or not rest else full + 1

    def __iter__(self) -> Iterator[tuple[np.ndarray, ...]]:
        self.epoch += 1
        return self.batches(self.epoch - 1)

    def batches(self, epoch: int, start: int = 0) -> Iterator[tuple[np.ndarray, ...]]:
        """Yield the batches of epoch ``epoch``, from number ``start`` on."""
        order = self.order(epoch)
        batches = (order[i * self.batch_size : (i + 1) * self.batch_size] for i in range(start, len(self)))
        if self.device == "cuda" and self._source is self.dataset and Resident.fits(self.dataset):
            self._source = Resident(self.dataset)
        if self.prefetch == 0 or isinstance(self._source, Resident):
            for indices in batches:
                yield tuple(backend.asarray_on(array, self.device) for array in self._load(indices, epoch))
            return
        upload = Upload() if self.device == "cuda" else None
        worker = ThreadPoolExecutor(1, THREAD_NAME, initializer=backend.work_alone)
        ready: deque[Future[Any]] = deque()
        try:
            for indices in batches:
                ready.append(worker.submit(self._load, indices, epoch, upload))
                if len(ready) > self.prefetch:
                    yield _received(ready.popleft(), upload)
            while ready:
                yield _received(ready.popleft(), upload)
        finally:
            # A loader thread may be the one to collect an abandoned iterator, and a thread cannot join itself.
            in_worker = threading.current_thread().name.startswith(THREAD_NAME)
            worker.shutdown(wait=not in_worker, cancel_futures=True)

    def __repr__(self) -> str:
        options = f"batch_size={self.batch_size}, shuffle={self.shuffle}, drop_last={self.drop_last}, seed={self.seed}"
        steps = f", augment={list(self.augment)}" if self.augment else ""
        return f"DataLoader({self.dataset!r}, {options}{steps})"

    def order(self, epoch: int) -> np.ndarray:
        """Sample indices of epoch ``epoch``, in the order in which it visits them."""
        if not self.shuffle:
            return np.arange(len(self.dataset))
        return np.random.default_rng((self.seed, epoch)).permutation(len(self.dataset))

    def _load(self, indices: np.ndarray, epoch: int, upload: Upload | None = None) -> Any:
        batch = augment(self._samples(indices), self.augment, self.seed, epoch, indices)
        return batch if upload is None else upload.send(batch)

    def _samples(self, indices: np.ndarray) -> tuple[np.ndarray, ...]:
        if hasattr(self._source, "batch"):
            return self._source.batch(indices)
        samples = [self._source[int(i)] for i in indices]
        if not isinstance(samples[0], (tuple, list)):
            return (channels_last(np.stack(samples)),)
        return tuple(channels_last(np.stack(field)) for field in zip(*samples, strict=True))


def _received(batch: Future[Any], upload: Upload | None) -> tuple[Any, ...]:
    return batch.result() if upload is None else upload.receive(batch.result())
