import numpy as np
import pytest

import nnk
from nnk import nn, optim
from nnk.data import DataLoader
from nnk.train import Trainer


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def toy_images(n=50, seed=0):
    """Images whose class is the quadrant that is bright."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, n)
    images = rng.normal(0, 0.3, (n, 1, 8, 8)).astype(np.float32)
    for image, label in zip(images, labels):
        image[0, 4 * (label // 2) :, 4 * (label % 2) :][:4, :4] += 1
    return images, labels


def toy_model():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.2),
        nn.Flatten(),
        nn.Linear(64, 4),
    )


def toy_trainer(out=None, *, lr=0.01, seed=1, scheduler=True, **kwargs):
    """A trainer with all that has a state: momentum, batch statistics, dropout, a schedule."""
    nnk.manual_seed(7)
    model = toy_model()
    optimizer = optim.Adam(model.parameters(), lr=lr)
    if scheduler:
        kwargs["scheduler"] = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=30)
        kwargs.setdefault("scheduler_interval", "step")
    return Trainer(model, optimizer=optimizer, batch_size=10, seed=seed, out=out, **kwargs)


@pytest.fixture
def images():
    return toy_images()


@pytest.fixture
def val_images():
    return toy_images(23, seed=1)


@pytest.fixture
def make_trainer():
    return toy_trainer


@pytest.fixture
def make_loader():
    return lambda arrays, **kwargs: DataLoader(list(zip(*arrays)), 10, shuffle=True, seed=1, **kwargs)


@pytest.fixture
def contents():
    """A function that reads everything in a folder, to see whether it has changed."""
    return lambda folder: {path.name: path.read_bytes() for path in folder.iterdir()}
