"""Losses: modules that compare an output with a target and start the way back.

``loss = criterion(input, target)``, then ``criterion.backward()`` returns the gradient to the input. `backward` takes
the gradient to the loss, of the loss's shape; None stands for ones. Targets get no gradient. A reduced loss is a 0-d
array of the input's dtype. `size_average` and `reduce`, which PyTorch has given up, take None.
"""

from nnk.nn.loss.binary import BCELoss, BCEWithLogitsLoss
from nnk.nn.loss.categorical import CrossEntropyLoss, NLLLoss
from nnk.nn.loss.divergence import KLDivLoss
from nnk.nn.loss.focal import FocalLoss
from nnk.nn.loss.likelihood import BernoulliNLLLoss, GaussianNLLLoss, LaplaceNLLLoss
from nnk.nn.loss.ranking import MarginRankingLoss
from nnk.nn.loss.regression import HuberLoss, L1Loss, MSELoss, SmoothL1Loss

__all__ = [
    "BCELoss",
    "BCEWithLogitsLoss",
    "BernoulliNLLLoss",
    "CrossEntropyLoss",
    "FocalLoss",
    "GaussianNLLLoss",
    "HuberLoss",
    "KLDivLoss",
    "L1Loss",
    "LaplaceNLLLoss",
    "MSELoss",
    "MarginRankingLoss",
    "NLLLoss",
    "SmoothL1Loss",
]
