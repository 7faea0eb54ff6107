"""The reference's gradients against central differences in float64."""

import numpy as np
import pytest

from nnk.kernels import reference
from nnk.kernels.ops import OPS

STEP = 1e-5  # of the input's spread
RUNS = [
    pytest.param(op, case, name, id=f"{op.name}-{case.name}-{name}")
    for op in OPS
    for case in op.suite.cases
    if case.smooth
    for name in op.suite.gradients
    if case.make(np.random.default_rng(0))[name] is not None
]


def spread(x):
    """The scale on which a function of x may bend: the standard deviation in each channel."""
    if not x.size:
        return 1.0
    deviation = x.std(axis=(0, *range(2, x.ndim)) if x.ndim > 1 else None, keepdims=True)
    return np.where(deviation > 0, deviation, 1.0)


@pytest.mark.parametrize(("op", "case", "name"), RUNS)
def test_gradient_is_the_slope(op, case, name):
    inputs = case.make(np.random.default_rng(0))
    x, dy = inputs[name], inputs["dy"]
    gradient = op.suite.run(reference, **inputs)[f"d{name}"]
    assert gradient.shape == x.shape

    rng = np.random.default_rng(1)
    for _ in range(3):
        direction = np.asarray(rng.standard_normal(x.shape)) * spread(x)
        ahead, behind = (
            (op.suite.run(reference, **(inputs | {name: x + step * direction}))["y"] * dy)
            for step in (STEP, -STEP)
        )
        slope = (ahead - behind).sum() / (2 * STEP)
        terms = direction * gradient
        # The third derivative leaves about STEP² of the function; rounding of y and of x is divided by STEP.
        bend = 10 * STEP**2 * np.abs(ahead).sum()
        rounding = np.finfo(np.float64).eps / STEP * (np.abs(ahead).sum() + np.abs(gradient * x).sum())
        assert abs(slope - terms.sum()) <= 1e-8 * np.abs(terms).sum() + bend + rounding
