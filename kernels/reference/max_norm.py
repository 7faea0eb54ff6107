"""A bound on the norm of the weights of each output unit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def max_norm(params: Sequence[np.ndarray], *, limit: float) -> None:
    """In place: x[i] ← x[i] · limit / (‖x[i]‖ + 1e-7) for each i of the first axis where ‖x[i]‖ > limit.

    Each array has two axes or more. Sources: Srivastava et al. (2014), "Dropout: a simple way to prevent neural
    networks from overfitting", section 5.1; torch.renorm (the 1e-7).
    """
    for x in params:
        norms = np.sqrt(np.sum(x * x, axis=tuple(range(1, x.ndim)), keepdims=True))
        x *= limit / np.where(norms > limit, norms + 1e-7, limit)
