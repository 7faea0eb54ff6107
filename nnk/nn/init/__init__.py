"""How parameters start, with torch.nn.init's names and arguments: arrays one by one, and whole networks."""

from nnk.nn.init.fill import (
    calculate_gain,
    constant_,
    dirac_,
    empty,
    eye_,
    full,
    kaiming_normal_,
    kaiming_uniform_,
    normal_,
    ones_,
    orthogonal_,
    sparse_,
    trunc_normal_,
    uniform_,
    xavier_normal_,
    xavier_uniform_,
    zeros_,
)
from nnk.nn.init.network import fixup_, lsuv_

__all__ = [
    "calculate_gain",
    "constant_",
    "dirac_",
    "empty",
    "eye_",
    "fixup_",
    "full",
    "kaiming_normal_",
    "kaiming_uniform_",
    "lsuv_",
    "normal_",
    "ones_",
    "orthogonal_",
    "sparse_",
    "trunc_normal_",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
    "zeros_",
]
