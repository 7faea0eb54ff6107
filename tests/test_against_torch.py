"""A small network trained in both libraries from the same weights: the same losses."""

import numpy as np
import pytest

import nnk
from nnk import nn, optim

torch = pytest.importorskip("torch")


class TorchResidual(torch.nn.Module):
    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, x):
        return self.body(x) + x


def network(nn, residual):
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        residual(nn.Sequential(nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


def batches(steps, size):
    """Noisy pictures of ten random patterns."""
    rng = np.random.default_rng(0)
    patterns = 2 * rng.standard_normal((10, 1, 8, 8))
    for _ in range(steps):
        labels = rng.integers(0, 10, size)
        yield (patterns[labels] + rng.standard_normal((size, 1, 8, 8))).astype(np.float32), labels


def test_fifty_steps_have_the_same_losses():
    nnk.manual_seed(0)
    ours, theirs = network(nn, nn.Residual), network(torch.nn, TorchResidual)
    theirs.load_state_dict({key: torch.tensor(value) for key, value in ours.state_dict().items()})
    our_criterion, their_criterion = nn.CrossEntropyLoss(), torch.nn.CrossEntropyLoss()
    our_optimizer = optim.Adam(ours.parameters(), lr=1e-3)
    their_optimizer = torch.optim.Adam(theirs.parameters(), lr=1e-3)
    our_losses, their_losses = [], []
    nnk.set_precision("highest")
    try:
        for x, labels in batches(50, 64):
            our_optimizer.zero_grad()
            our_losses.append(float(our_criterion(ours(x), labels)))
            ours.backward(our_criterion.backward(), input_grad=False)
            our_optimizer.step()

            their_optimizer.zero_grad()
            loss = their_criterion(theirs(torch.from_numpy(x)), torch.from_numpy(labels))
            their_losses.append(loss.item())
            loss.backward()
            their_optimizer.step()
    finally:
        nnk.set_precision("high")
    assert our_losses[-1] < our_losses[0] / 2
    np.testing.assert_allclose(our_losses, their_losses, atol=1e-4, rtol=0)
