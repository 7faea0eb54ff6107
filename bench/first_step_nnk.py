"""A program that trains the digits network for one step and prints the loss; `startup.py` times it as a whole.

    python bench/first_step_nnk.py [cpu | cuda]
"""

import sys

import numpy as np

from nnk import backend, models, nn, optim

device = "cuda" if sys.argv[1:] == ["cuda"] else "cpu"
rng = np.random.default_rng(0)
x, labels = rng.standard_normal((32, 1, 8, 8), np.float32), rng.integers(0, 10, 32)
x, labels = backend.asarray_on(x, device), backend.asarray_on(labels, device)
model, criterion = models.digits_cnn().to(device), nn.CrossEntropyLoss()
optimizer = optim.Adam(model.parameters(), lr=1e-3)
loss = criterion(model(x), labels)
model.backward(criterion.backward(), input_grad=False)
optimizer.step()
print(float(loss))
