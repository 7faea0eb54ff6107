import gc
import threading
import time

import numpy as np
import pytest

pytest.importorskip("hypothesis")

from hypothesis import given, settings
from hypothesis import strategies as st

import nnk
from nnk.data import ArrayDataset, DataLoader, RandomHorizontalFlip
from nnk.data.loader import THREAD_NAME
from nnk.kernels.cpu._thread import thread


def numbered(n, **kwargs):
    """A data set whose labels are their own index."""
    return ArrayDataset(np.arange(n * 12, dtype=np.float32).reshape(n, 3, 2, 2), np.arange(n), **kwargs)


def loader_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith(THREAD_NAME)]


def labels(batches):
    return [y.tolist() for _, y in batches]


class Failing:
    """Raises at sample 5."""

    def __len__(self):
        return 8

    def __getitem__(self, index):
        if index == 5:
            raise ZeroDivisionError("sample 5 is bad")
        return np.float32(index), index


@given(
    n=st.integers(0, 40),
    batch_size=st.integers(1, 9),
    shuffle=st.booleans(),
    drop_last=st.booleans(),
    seed=st.integers(0, 2**40),
    epoch=st.integers(0, 2**20),
    prefetch=st.integers(0, 4),
    data=st.data(),
)
@settings(deadline=None, max_examples=60)
def test_an_epoch_visits_every_sample_once_and_can_be_entered_anywhere(
    n, batch_size, shuffle, drop_last, seed, epoch, prefetch, data
):
    loader = DataLoader(numbered(n), batch_size, shuffle, drop_last=drop_last, seed=seed, prefetch=prefetch)
    batches = list(loader.batches(epoch))
    assert len(batches) == len(loader) == (n // batch_size if drop_last else -(-n // batch_size))
    assert all(len(x) == len(y) == batch_size for x, y in batches[:-1])
    seen = [i for batch in labels(batches) for i in batch]
    assert len(set(seen)) == len(seen) == (len(loader) * batch_size if drop_last else n)
    if not shuffle:
        assert seen == list(range(len(seen)))
    for x, y in batches:
        np.testing.assert_array_equal(x, loader.dataset.arrays[0][y])

    start = data.draw(st.integers(0, len(loader)))
    again = DataLoader(numbered(n), batch_size, shuffle, drop_last=drop_last, seed=seed)
    assert labels(again.batches(epoch, start)) == labels(batches[start:])


def test_each_iteration_is_the_next_epoch():
    loader = DataLoader(numbered(50), 8, shuffle=True, seed=3)
    first, second = labels(loader), labels(loader)
    assert first != second
    assert first == labels(loader.batches(0))
    assert second == labels(loader.batches(1))
    assert first != labels(DataLoader(numbered(50), 8, shuffle=True, seed=4))


def test_without_a_seed_the_order_follows_manual_seed():
    orders = []
    for seed in (5, 5, 6):
        nnk.manual_seed(seed)
        orders.append(DataLoader(numbered(50), 8, shuffle=True).order(0).tolist())
    assert orders[0] == orders[1] != orders[2]
    state = nnk.random.get_state()
    DataLoader(numbered(50), 8)
    assert nnk.random.get_state() == state  # without shuffling nothing is drawn


@pytest.mark.parametrize("prefetch", [0, 1, 3])
def test_batches_are_made_while_the_consumer_works(prefetch):
    made = []

    class Slow:
        def __len__(self):
            return 6

        def __getitem__(self, index):
            made.append(index)
            return index

    for count, _ in enumerate(DataLoader(Slow(), prefetch=prefetch), start=1):
        wanted = min(6, count + prefetch)
        deadline = time.monotonic() + 10
        while len(made) < wanted and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.005)
        assert len(made) == wanted


def test_a_batch_that_is_held_never_changes():
    loader = DataLoader(numbered(64), 4, shuffle=True, seed=0)
    held = [(x, y, x.copy(), y.copy()) for _ in range(3) for x, y in loader]
    for x, y, x_then, y_then in held:
        np.testing.assert_array_equal(x, x_then)
        np.testing.assert_array_equal(y, y_then)
    assert not any(np.shares_memory(x, loader.dataset.arrays[0]) for x, *_ in held)


@pytest.mark.parametrize("prefetch", [0, 2])
def test_a_failure_is_raised_at_its_batch_and_ends_the_thread(prefetch):
    loader = DataLoader(Failing(), 2, prefetch=prefetch)
    batches = iter(loader)
    assert [next(batches)[1].tolist() for _ in range(2)] == [[0, 1], [2, 3]]
    with pytest.raises(ZeroDivisionError, match="sample 5 is bad"):
        next(batches)
    assert not loader_threads()


def test_kernels_of_the_background_thread_leave_the_other_cores_to_training():
    alone = []
    data = numbered(8, transform=lambda images: alone.append(thread.alone) or images)
    list(DataLoader(data, 4))
    list(DataLoader(data, 4, prefetch=0))
    assert alone == [True, True, False, False]


def test_stopping_early_ends_the_thread():
    for _ in DataLoader(numbered(64), 4):
        assert loader_threads()
        break
    assert not loader_threads()
    batches = DataLoader(numbered(64), 4).batches(0)
    next(batches)
    batches.close()
    assert not loader_threads()


def test_a_consumer_that_raises_ends_the_thread():
    def consume():
        for _ in DataLoader(numbered(64), 4):
            raise KeyError

    with pytest.raises(KeyError):
        consume()
    gc.collect()  # the exception's traceback held the iterator
    assert not loader_threads()


def test_many_loaders_at_once():
    loaders = [DataLoader(numbered(20), 3, shuffle=True, seed=seed) for seed in range(8)]
    together = [labels(batches) for batches in zip(*loaders)]
    alone = list(zip(*(labels(loader.batches(0)) for loader in loaders)))
    assert together == [list(step) for step in alone]
    assert not loader_threads()


def test_images_come_in_channels_last_memory():
    x, _ = next(iter(DataLoader(numbered(8), 4)))
    assert x.shape == (4, 3, 2, 2)
    assert x.transpose(0, 2, 3, 1).flags.c_contiguous
    samples = [(image, 0) for image in numbered(8).arrays[0]]
    x, _ = next(iter(DataLoader(samples, 4)))
    assert x.transpose(0, 2, 3, 1).flags.c_contiguous


def test_any_sequence_is_a_data_set():
    pairs = [(np.full(2, i, np.float32), i) for i in range(5)]
    (x, y), (last_x, last_y) = DataLoader(pairs, 3)
    np.testing.assert_array_equal(x, [[0, 0], [1, 1], [2, 2]])
    assert y.tolist() == [0, 1, 2]
    assert last_x.shape == (2, 2)
    assert last_y.tolist() == [3, 4]
    ((alone,),) = DataLoader(np.arange(3.0), 3)
    assert alone.tolist() == [0.0, 1.0, 2.0]


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"batch_size": 0}, ValueError, "batch_size is 0, expected at least 1"),
        ({"batch_size": 2.0}, TypeError, "batch_size is 2.0, expected an int"),
        ({"batch_size": True}, TypeError, "batch_size is True, expected an int"),
        ({"prefetch": -1}, ValueError, "prefetch is -1, expected at least 0"),
        ({"seed": "a"}, TypeError, "seed is 'a', expected an int"),
        ({"seed": -1}, ValueError, "seed is -1, expected at least 0"),
    ],
)
def test_bad_arguments_are_named(kwargs, error, message):
    with pytest.raises(error, match=message):
        DataLoader(numbered(3), **kwargs)


def test_an_iterator_is_no_data_set():
    with pytest.raises(TypeError, match="dataset is a list_iterator, expected __len__ and __getitem__"):
        DataLoader(iter([1, 2]))


def test_repr_says_what_it_does():
    data = ArrayDataset(np.zeros((4, 1, 2, 2), np.float32))
    loader = DataLoader(data, 2, shuffle=True, seed=7)
    assert repr(loader) == f"DataLoader({data!r}, batch_size=2, shuffle=True, drop_last=False, seed=7)"
    flip = RandomHorizontalFlip()
    assert repr(DataLoader(data, augment=[flip])).endswith(f", augment=[{flip!r}])")
