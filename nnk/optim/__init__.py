"""Optimisers and learning-rate schedules, with the names and arguments of torch.optim."""

from nnk.optim import lr_scheduler
from nnk.optim.adam import Adam, AdamW
from nnk.optim.optimizer import Optimizer
from nnk.optim.sgd import SGD

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "lr_scheduler"]
