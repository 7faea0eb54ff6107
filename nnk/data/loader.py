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

    Raises:
        TypeError: ``dataset`` has no length or no index, ``batch_size``, ``prefetch`` or ``seed`` is no int, or
            ``augment`` is no sequence of what can be called.
        ValueError: ``batch_size`` below 1, ``prefetch`` or ``seed`` below 0.
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
        self.epoch = 0

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
        if self.prefetch == 0:
            yield from (self._load(indices, epoch) for indices in batches)
            return
        worker = ThreadPoolExecutor(1, THREAD_NAME, initializer=backend.work_alone)
        ready: deque[Future[Any]] = deque()
        try:
            for indices in batches:
                ready.append(worker.submit(self._load, indices, epoch))
                if len(ready) > self.prefetch:
                    yield ready.popleft().result()
            while ready:
                yield ready.popleft().result()
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

    def _load(self, indices: np.ndarray, epoch: int) -> tuple[np.ndarray, ...]:
        return augment(self._samples(indices), self.augment, self.seed, epoch, indices)

    def _samples(self, indices: np.ndarray) -> tuple[np.ndarray, ...]:
        if hasattr(self.dataset, "batch"):
            return self.dataset.batch(indices)
        samples = [self.dataset[int(i)] for i in indices]
        if not isinstance(samples[0], (tuple, list)):
            return (channels_last(np.stack(samples)),)
        return tuple(channels_last(np.stack(field)) for field in zip(*samples, strict=True))
