"""The same module in nnk and in PyTorch, in float64: outputs, gradients and buffers must agree."""

import numpy as np
import pytest

import nnk
from nnk import nn


@pytest.fixture
def reference():
    with nnk.use_backend("reference"):
        yield


@pytest.fixture
def rng():
    return np.random.default_rng(3)


@pytest.fixture
def same_as_torch(reference, rng):
    """Return a function that runs nn.<name>(*args, **kwargs) of both libraries on x and compares everything."""
    torch = pytest.importorskip("torch")

    def close(ours, theirs, what, rtol=1e-9):
        theirs = theirs.detach().numpy()
        assert np.shape(ours) == theirs.shape, what
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=1e-11, err_msg=what)

    def tensors(values):
        return [torch.from_numpy(np.ascontiguousarray(v)) if np.ndim(v) else torch.tensor(v) for v in values]

    def compare(name, args, kwargs, *inputs, mode="train", forwards=1, rtol=1e-9):
        ours = getattr(nn, name)(*args, **kwargs).double()
        torch_arguments = [tensors([a])[0] if isinstance(a, np.ndarray) else a for a in args]
        torch_options = {k: tensors([v])[0] if isinstance(v, np.ndarray) else v for k, v in kwargs.items()}
        theirs = getattr(torch.nn, name)(*torch_arguments, **torch_options).double()
        for parameter in ours.parameters():
            parameter.data[...] = rng.standard_normal(parameter.shape)
        theirs.load_state_dict({k: torch.tensor(v) for k, v in ours.state_dict().items()})
        ours.train(mode == "train")
        theirs.train(mode == "train")
        for _ in range(forwards):
            x, *others = tensors(inputs)
            x.requires_grad_()
            y = ours(*inputs)
            expected = theirs(x, *others)
            if isinstance(y, tuple):
                np.testing.assert_array_equal(y[1], expected[1].numpy())
                assert y[1].dtype == np.int64
                y, expected = y[0], expected[0]
            close(y, expected, "output")
            dy = rng.standard_normal(y.shape)
            dx = ours.backward(dy)
            expected.backward(torch.tensor(dy))
            close(dx, x.grad, "gradient to the input", rtol)
        for key, parameter in theirs.named_parameters():
            close(dict(ours.named_parameters())[key].grad, parameter.grad, key)
        for key, value in theirs.state_dict().items():
            close(ours.state_dict()[key], value, key)

    return compare
