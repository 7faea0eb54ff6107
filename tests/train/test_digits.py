"""Networks without batch norm, or with something in its place, learn the handwritten digits."""

import pytest

import nnk
from nnk import models, nn, optim
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


def accuracy(model, batch_size, epochs, lr=2e-3):
    """The share of the test images that the model knows after so many epochs."""
    train, test = nnk.data.digits()
    steps = epochs * -(-len(train) // batch_size)
    optimizer = optim.Adam(model.parameters(), lr=lr)
    schedule = optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    trainer = Trainer(model, optimizer=optimizer, scheduler=schedule, batch_size=batch_size, seed=0)
    trainer.fit(train, epochs=epochs)
    return trainer.evaluate(test)["accuracy"]


@pytest.mark.parametrize(
    ("norm", "batch_size", "epochs"),
    [
        pytest.param(lambda channels: nn.GroupNorm(4, channels), 2, 4, id="GroupNorm, batches of 2"),
        pytest.param(nn.BatchInstanceNorm2d, 32, 8, id="BatchInstanceNorm2d"),
    ],
)
def test_learns_the_digits(norm, batch_size, epochs):
    nnk.manual_seed(0)
    model = convolutions(norm)
    assert accuracy(model, batch_size, epochs) >= 0.97
    for module in model.modules():
        if isinstance(module, nn.BatchInstanceNorm2d):
            gate = module.gate.data
            assert 0 <= gate.min() < 1
            assert gate.max() <= 1


@pytest.mark.parametrize(
    ("build", "options", "epochs", "lr"),
    [
        pytest.param(models.lenet, {}, 30, 8e-3, id="lenet"),
        pytest.param(models.lenet, {"activation": "sigmoid"}, 30, 2e-2, id="lenet, sigmoid"),
        pytest.param(models.maxout_cnn, {}, 15, 2e-3, id="maxout_cnn"),
        pytest.param(models.selu_cnn, {}, 15, 2e-3, id="selu_cnn"),
    ],
)
def test_a_network_without_norms_learns_the_digits(build, options, epochs, lr):
    nnk.manual_seed(0)
    model = build((1, 8, 8), 10, **options)
    assert not any(isinstance(module, (nn.BatchNorm2d, nn.GroupNorm)) for module in model.modules())
    assert accuracy(model, batch_size=32, epochs=epochs, lr=lr) >= 0.97
