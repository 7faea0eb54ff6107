"""A program that trains the digits network for one step and prints the loss; `startup.py` times it as a whole."""

import numpy as np

from nnk import models, nn, optim

rng = np.random.default_rng(0)
x, labels = rng.standard_normal((32, 1, 8, 8), np.float32), rng.integers(0, 10, 32)
model, criterion = models.digits_cnn(), nn.CrossEntropyLoss()
optimizer = optim.Adam(model.parameters(), lr=1e-3)
loss = criterion(model(x), labels)
model.backward(criterion.backward(), input_grad=False)
optimizer.step()
print(float(loss))
