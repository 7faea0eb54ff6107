"""How far convolutions are from float64: what `nnk.set_precision` promises, on shapes and data chosen to hurt."""

import numpy as np
import pytest

from nnk.kernels import cpu, reference
from nnk.kernels.cpu._driver import get_num_threads, set_num_threads

# Relative RMS errors: the promise, and what strict float32 keeps to.
BOUNDS = {"high": 1e-5, "highest": 2e-6}



@pytest.fixture(autouse=True)
def one_thread():
    """With more threads fewer convolutions take Winograd's algorithm, and their sums are shorter."""
    before = get_num_threads()
    set_num_threads(1)
    yield
    set_num_threads(before)


# Images, channels, filters, size: long sums over channels, over pixels, and maps that tiles of 4 x 4 do not fit.
SHAPES = [
    (2, 32, 32, 32),
    (64, 16, 16, 32),
    (4, 64, 64, 33),
    (4, 128, 128, 16),
    (2, 256, 256, 9),
    (8, 512, 512, 4),
    (2, 512, 512, 7),
    (1, 512, 32, 14),
    (1, 32, 512, 14),
]


def smooth(rng, shape):
    """Waves much longer than a filter, as in images: neighbours differ little."""
    rows, columns = np.mgrid[: shape[2], : shape[3]] / max(shape[2:])
    u, v, phase = rng.uniform(0, 6, (3, *shape[:2], 1, 1))
    return np.cos(u * rows + v * columns + phase)


INPUTS = {
    "centred": lambda rng, shape: rng.standard_normal(shape),
    "rectified": lambda rng, shape: np.maximum(rng.standard_normal(shape), 0),
    "rectified, large mean": lambda rng, shape: np.maximum(rng.standard_normal(shape) + 20, 0),
    "smooth": smooth,
}


def error(got, want):
    return np.sqrt(np.mean((got - want) ** 2) / np.mean(want**2))


@pytest.mark.parametrize("inputs", INPUTS.values(), ids=INPUTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_relative_errors(shape, inputs):
    n, c, k, size = shape
    rng = np.random.default_rng(0)
    x = inputs(rng, (n, c, size, size)).astype(np.float32)
    weight = (rng.standard_normal((k, c, 3, 3)) * np.sqrt(2 / (9 * c))).astype(np.float32)
    dy = rng.standard_normal((n, k, size, size)).astype(np.float32)

    def results(kernels, *arrays, **options):
        x, weight, dy = arrays
        options["padding"] = (1, 1)
        return {
            "y": kernels.conv2d(x, weight, **options),
            "dx": kernels.conv2d_dgrad(dy, weight, x.shape, **options),
            "dweight": kernels.conv2d_wgrad(dy, x, weight.shape, **options),
        }

    want = results(reference, *(array.astype(np.float64) for array in (x, weight, dy)))
    for precision, bound in BOUNDS.items():
        got = results(cpu, x, weight, dy, precision=precision)
        errors = {name: error(got[name], want[name]) for name in want}
        assert max(errors.values()) <= bound, (precision, errors)


def test_filters_whose_weights_add_up_to_nothing():
    """A large mean that such filters take out again: the error is measured beside what is left."""
    rng = np.random.default_rng(0)
    x = np.maximum(rng.standard_normal((2, 256, 14, 14)) + 20, 0).astype(np.float32)
    weight = rng.standard_normal((64, 256, 3, 3))
    weight = (weight - weight.mean(axis=(2, 3), keepdims=True)).astype(np.float32)
    want = reference.conv2d(x.astype(np.float64), weight.astype(np.float64))
    for precision, bound in BOUNDS.items():
        assert error(cpu.conv2d(x, weight, precision=precision), want) <= bound, precision
