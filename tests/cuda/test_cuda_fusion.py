"""What convolutions do for others costs no kernel more: the launches of a training block and of one in inference."""

import copy

import numpy as np
import pytest

import nnk
from nnk import backend, nn

pytestmark = pytest.mark.usefixtures("simulator")
X = np.random.default_rng(0).standard_normal((2, 8, 6, 5))


@pytest.fixture
def launched(monkeypatch):
    """The kernels that run, in order."""
    from nnk.kernels.cuda.launch import Kernel

    names, call = [], Kernel.__call__
    monkeypatch.setattr(Kernel, "__call__", lambda self, *args: names.append(self.entry) or call(self, *args))
    return names


def conv(**options):
    return nn.Conv2d(8, 8, 3, padding=1, bias=False, **options)


def block():
    """A block whose parameters and running statistics are drawn at random."""
    rng = np.random.default_rng(1)
    body = nn.Sequential(conv(), nn.BatchNorm2d(8), nn.ReLU(), conv(), nn.BatchNorm2d(8))
    model = nn.Sequential(nn.Residual(body), nn.ReLU())
    for name, array in model.state_dict().items():
        if array.ndim:
            array[...] = np.exp(rng.standard_normal(array.shape)) if "var" in name else rng.standard_normal(array.shape)
    return model


def results(model, x):
    """The output, the gradients, and the statistics after a step in training."""
    y = model(x)
    dx = model.backward(np.cos(y.astype(np.float64)).astype(y.dtype))
    return [y, dx, *(p.grad for p in model.parameters()), *(a for _, a in model.named_buffers())]


@pytest.mark.parametrize("options", [{}, {"groups": 8}], ids=["products", "depthwise"])
def test_cuda_batch_norm_reads_the_output_of_a_convolution_once_less(launched, options):
    model = nn.Sequential(conv(**options), nn.BatchNorm2d(8), nn.ReLU())
    with nnk.use_backend("cuda"):
        given = model[0].forward(X.astype(np.float32), statistics=(found := [])) is not None and found[0] is not None
        launched.clear()
        model(X.astype(np.float32))
    assert launched.count("_moments_moments") == (0 if given else 1)
    assert given or options


@pytest.mark.parametrize(
    ("precision", "dtype", "bound"),
    [("highest", "float32", 1e-4), ("high", "float32", 2e-2), ("high", "bfloat16", 1e-1)],
)
def test_cuda_a_block_in_training_is_that_of_the_reference(launched, precision, dtype, bound):
    """In bfloat16 as in mixed precision: parameters and statistics are float32."""
    model, before = block(), nnk.get_precision()
    with nnk.use_backend("reference"):
        want = results(copy.deepcopy(model).double(), X)
    nnk.set_precision(precision)
    try:
        with nnk.use_backend("cuda"):
            found = results(model, X.astype(backend.named_dtype(dtype)))
    finally:
        nnk.set_precision(before)
    assert "_moments_moments" not in launched
    assert {array.dtype.name for array in found[:2]} == {dtype}
    assert {array.dtype.name for array in found[2:] if array.ndim} == {"float32"}
    for ours, theirs in zip(found, want):
        assert np.linalg.norm(ours.astype(np.float64) - theirs) <= bound * np.linalg.norm(theirs)


def test_cuda_a_block_in_inference_is_its_convolutions(launched):
    model = block().eval()
    with nnk.no_grad():
        with nnk.use_backend("reference"):
            want = copy.deepcopy(model).double()(X)
        with nnk.use_backend("cuda"):
            y = model(X.astype(np.float32))
    assert len(launched) == 4, launched  # two that arrange weights, two products
    assert np.linalg.norm(y - want) / np.linalg.norm(want) < 2e-2
