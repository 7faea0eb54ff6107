"""Adam and AdamW.

At step t (counted from 1), with gradient g (from `_gradient.py`), parameter θ and running moments m and v:

    m ← m + (1 - β1) (g - m)                       v ← β2 v + (1 - β2) g²
    θ ← θ - lr / (1 - β1^t) · m / (√v / √(1 - β2^t) + ε)

Weight decay is part of Adam's gradient; in AdamW it is not, there θ ← (1 - lr · weight_decay) θ comes before the last
line. AMSGrad puts w, the largest v so far, in the place of v in the last line: w ← max(w, v).

Sources: Kingma and Ba (2015), arXiv:1412.6980, algorithm 1; Loshchilov and Hutter (2019), arXiv:1711.05101,
algorithm 2; Reddi, Kale and Kumar (2018), arXiv:1904.09237, algorithm 2 (AMSGrad); torch.optim.Adam, AdamW (ε is added
after the correction of √v).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ._gradient import gradient

Arrays = Sequence[np.ndarray]


def adam(
    params: Arrays,
    grads: Arrays,
    exp_avgs: Arrays,
    exp_avg_sqs: Arrays,
    max_exp_avg_sqs: Arrays | None = None,
    *,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float = 0.0,
    step: int,
    maximize: bool = False,
    l1: float = 0.0,
    grad_scale: float = 1.0,
    clip_value: float = 0.0,
    skip: np.ndarray | None = None,
) -> None:
    """One step of Adam for all parameters, in place; exp_avgs, exp_avg_sqs, max_exp_avg_sqs: m, v and w."""
    if skip:
        return
    maxima = max_exp_avg_sqs or [None] * len(params)
    for param, g, m, v, w in zip(params, grads, exp_avgs, exp_avg_sqs, maxima):
        g = gradient(param, g, maximize, weight_decay, l1, grad_scale, clip_value)
        _update(param, g, m, v, w, lr, beta1, beta2, eps, step)


def adamw(
    params: Arrays,
    grads: Arrays,
    exp_avgs: Arrays,
    exp_avg_sqs: Arrays,
    max_exp_avg_sqs: Arrays | None = None,
    *,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float = 0.0,
    step: int,
    maximize: bool = False,
    l1: float = 0.0,
    grad_scale: float = 1.0,
    clip_value: float = 0.0,
    skip: np.ndarray | None = None,
) -> None:
    """One step of AdamW for all parameters, in place; exp_avgs, exp_avg_sqs, max_exp_avg_sqs: m, v and w."""
    if skip:
        return
    maxima = max_exp_avg_sqs or [None] * len(params)
    for param, g, m, v, w in zip(params, grads, exp_avgs, exp_avg_sqs, maxima):
        g = gradient(param, g, maximize, 0.0, l1, grad_scale, clip_value)
        param *= 1 - lr * weight_decay
        _update(param, g, m, v, w, lr, beta1, beta2, eps, step)


def _update(
    param: np.ndarray,
    g: np.ndarray,
    m: np.ndarray,
    v: np.ndarray,
    w: np.ndarray | None,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    step: int,
) -> None:
    m += (1 - beta1) * (g - m)
    v *= beta2
    v += (1 - beta2) * g * g
    if w is not None:
        np.maximum(w, v, out=w)
        v = w
    denominator = np.sqrt(v) / math.sqrt(1 - beta2**step) + eps
    param -= lr / (1 - beta1**step) * m / denominator
