"""Batches on a GPU that is a stand-in for CuPy: those of the CPU, wherever they were made."""

import numpy as np
import pytest

import nnk
from nnk import backend, data, nn, optim
from nnk.train import Trainer

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (21, 3, 8, 8), dtype=np.uint8)
LABELS = RNG.integers(0, 4, 21)
NORMALIZE = data.Normalize([120.0] * 3, [60.0, 50.0, 70.0])
STEPS = [
    data.RandomCrop(8, padding=1),
    data.RandomHorizontalFlip(),
    data.RandomVerticalFlip(),
    data.RandomAffine(10, (0.1, 0.1), (0.9, 1.1)),
    data.ColorJitter(0.2, 0.2),
    data.PCAColorJitter.fit(IMAGES),
    data.GaussianBlur(3),
    data.GaussianNoise(0.1),
    data.Cutout(3),
    NORMALIZE,
    data.MixUp(num_classes=4),
    data.CutMix(num_classes=4),
]


def host(batch):
    return [backend.asarray_on(array, "cpu") for array in batch]


def batches(device, dataset, **options):
    loader = data.DataLoader(dataset, 6, shuffle=True, seed=3, device=device, **options)
    return [batch for epoch in range(2) for batch in loader.batches(epoch)]


def same(there, here):
    assert len(there) == len(here)
    for ours, theirs in zip(there, here):
        for a, b in zip(host(ours), theirs):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("free", [2**30, 1000], ids=["resident", "uploaded"])
@pytest.mark.parametrize("prefetch", [0, 2])
def test_batches_are_those_of_the_cpu(cupy, monkeypatch, free, prefetch):
    monkeypatch.setattr(cupy.cuda.runtime, "memGetInfo", lambda: (free, free))
    dataset = data.ArrayDataset(IMAGES, LABELS)
    there = batches("cuda", dataset, augment=STEPS, prefetch=prefetch)
    assert all(type(array) is cupy.ndarray for batch in there for array in batch)
    assert cupy.State.syncs == 0
    same(there, batches("cpu", dataset, augment=STEPS))


def test_transforms_run_where_the_data_are(cupy):
    for transform in (NORMALIZE, data.ZCAWhitening.fit(IMAGES)):
        dataset = data.ArrayDataset(IMAGES, LABELS, transform=transform)
        there = batches("cuda", dataset)
        same(there, batches("cpu", dataset))
        np.testing.assert_allclose(transform.inverse(there[0][0]).get(), transform.inverse(host(there[0])[0]))


def test_data_travel_once(cupy):
    loader = data.DataLoader(data.ArrayDataset(IMAGES, LABELS), 6, shuffle=True, seed=3, device="cuda")
    first = list(loader)
    before = cupy.State.uploads
    assert len(list(loader)) == len(first)
    assert cupy.State.uploads - before == len(loader)  # the indices


def test_any_data_set_is_uploaded(cupy):
    pairs = list(zip(IMAGES.astype(np.float32), LABELS))
    same(batches("cuda", pairs), batches("cpu", pairs))


def test_a_copy_waits_for_whoever_had_its_memory(cupy):
    [batch] = data.DataLoader([(IMAGES[0], 1)], device="cuda").batches(0)
    assert cupy.State.log == [
        "empty", "empty", "record on null", "second waits", "copy on second", "copy on second", "record on second",
        "null waits",
    ]  # fmt: skip
    np.testing.assert_array_equal(host(batch)[0][0], IMAGES[0])


def test_pinned_memory_is_held_until_it_was_read(cupy, monkeypatch):
    monkeypatch.setattr(cupy.Event, "done", False)
    upload = data.device.Upload()
    for _ in range(3):
        upload.send((np.ones(3),))
    assert len(upload.staged) == 3
    monkeypatch.setattr(cupy.Event, "done", True)
    upload.send((np.ones(3),))
    assert len(upload.staged) == 1


def test_devices_are_checked():
    with pytest.raises(ValueError, match="device is 'tpu'"):
        data.DataLoader([1], device="tpu")


@pytest.mark.parametrize("kind", ["arrays", "loader", "loader of the GPU", "list"])
def test_a_trainer_takes_data_from_anywhere(cupy, kind):
    x, y = NORMALIZE(IMAGES), LABELS
    ends = []
    for device in ("cuda", "cpu"):
        nnk.manual_seed(2)
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 4))
        made = Trainer(model.to(device), optimizer=optim.SGD(model.parameters(), 0.02), batch_size=7, seed=3)
        train = {
            "arrays": (x, y),
            "loader": data.DataLoader(data.ArrayDataset(x, y), 7, shuffle=True, seed=3),
            "loader of the GPU": data.DataLoader(data.ArrayDataset(x, y), 7, True, seed=3, device=device),
            "list": [(x[:10], y[:10]), (x[10:20], y[10:20])],
        }[kind]
        made.fit(train, (x, y), epochs=3)
        ends.append(made.history)
    for ours, theirs in zip(*ends):
        assert ours == pytest.approx(theirs, rel=1e-4)
