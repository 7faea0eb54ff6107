"""What `first_step_nnk.py` is, in PyTorch and without nnk."""

import sys

import numpy as np
import torch
from torch import nn


class Residual(nn.Module):
    """x + body(x)."""

    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, x):
        return x + self.body(x)


def digits_cnn():
    """The network of `nnk.models.digits_cnn`."""
    body = nn.Sequential(
        nn.Conv2d(32, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32),
    )
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(), Residual(body), nn.ReLU(),
        nn.MaxPool2d(2), nn.Conv2d(32, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.Flatten(),
        nn.Linear(1024, 10),
    )


rng = np.random.default_rng(0)
x, labels = rng.standard_normal((32, 1, 8, 8), np.float32), rng.integers(0, 10, 32)
device = "cuda" if sys.argv[1:] == ["cuda"] else "cpu"
model, criterion = digits_cnn().to(device), nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
loss = criterion(model(torch.from_numpy(x).to(device)), torch.from_numpy(labels).to(device))
loss.backward()
optimizer.step()
print(loss.item())
