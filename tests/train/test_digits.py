"""Networks without batch norm, or with something in its place, learn the handwritten digits."""

import pytest

import nnk
from nnk import nn, optim
from nnk.train import Trainer

pytest.importorskip("sklearn")


def convolutions(norm):
    """Three convolutions, each with a norm of so many channels behind it."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=False), norm(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1, bias=False), norm(32), nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 32, 3, padding=1, bias=False), norm(32), nn.ReLU(),
        nn.Flatten(),
        nn.Linear(512, 10),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("norm", "batch_size", "epochs"),
    [
        pytest.param(lambda channels: nn.GroupNorm(4, channels), 2, 4, id="GroupNorm, batches of 2"),
        pytest.param(nn.BatchInstanceNorm2d, 32, 8, id="BatchInstanceNorm2d"),
    ],
)
def test_learns_the_digits(norm, batch_size, epochs):
    nnk.manual_seed(0)
    train, test = nnk.data.digits()
    model = convolutions(norm)
    steps = epochs * -(-len(train) // batch_size)
    optimizer = optim.Adam(model.parameters(), lr=2e-3)
    schedule = optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    trainer = Trainer(model, optimizer=optimizer, scheduler=schedule, batch_size=batch_size, seed=0)
    trainer.fit(train, epochs=epochs)
    assert trainer.evaluate(test)["accuracy"] >= 0.97
    for module in model.modules():
        if isinstance(module, nn.BatchInstanceNorm2d):
            gate = module.gate.data
            assert 0 <= gate.min() < 1
            assert gate.max() <= 1
