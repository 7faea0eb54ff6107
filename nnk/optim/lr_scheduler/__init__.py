"""Learning-rate schedules, with the names, arguments and numbers of torch.optim.lr_scheduler.

A schedule changes ``group["lr"]`` of its optimiser's groups, at its construction and at every `step()`, which comes
after `optimizer.step()`. Most compute the next rate from the present one, so that several schedules on one optimiser
multiply. In the formulas t counts the steps, 0 at construction.
"""

from nnk.optim.lr_scheduler.base import LRScheduler
from nnk.optim.lr_scheduler.combine import ChainedScheduler, SequentialLR
from nnk.optim.lr_scheduler.cosine import CosineAnnealingLR, CosineAnnealingWarmRestarts
from nnk.optim.lr_scheduler.cyclic import CyclicLR, OneCycleLR
from nnk.optim.lr_scheduler.decay import (
    ConstantLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    MultiStepLR,
    PolynomialLR,
    StepLR,
)
from nnk.optim.lr_scheduler.plateau import ReduceLROnPlateau

__all__ = [
    "ChainedScheduler",
    "ConstantLR",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "CyclicLR",
    "ExponentialLR",
    "LRScheduler",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "OneCycleLR",
    "PolynomialLR",
    "ReduceLROnPlateau",
    "SequentialLR",
    "StepLR",
]
