"""Optimisers and learning-rate schedules, with the names and arguments of torch.optim."""

from nnk.optim import lr_scheduler
from nnk.optim.adadelta import Adadelta
from nnk.optim.adagrad import Adagrad
from nnk.optim.adam import Adam, AdamW
from nnk.optim.optimizer import Optimizer
from nnk.optim.regularization import MaxNorm, decay_groups, max_norm_
from nnk.optim.rmsprop import RMSprop
from nnk.optim.sgd import SGD

__all__ = [
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "MaxNorm",
    "Optimizer",
    "RMSprop",
    "decay_groups",
    "lr_scheduler",
    "max_norm_",
]
