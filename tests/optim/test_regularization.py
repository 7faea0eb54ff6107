import numpy as np
import pytest

import nnk
from nnk import nn, optim


def model(dtype=np.float32):
    nnk.manual_seed(3)
    layers = nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5)
    return nn.Sequential(*layers).to(dtype)


def names(model, parameters):
    known = {id(parameter): name for name, parameter in model.named_parameters()}
    return [known[id(parameter)] for parameter in parameters]


def test_biases_and_norms_do_not_decay():
    made = model()
    weights, others = optim.decay_groups(made, 0.1, l1=0.2, lr=0.5)
    assert names(made, weights.pop("params")) == ["0.weight", "4.weight"]
    assert names(made, others.pop("params")) == ["0.bias", "1.weight", "1.bias", "4.bias"]
    assert weights == {"weight_decay": 0.1, "l1": 0.2, "lr": 0.5}
    assert others == {"weight_decay": 0.0}
    optimizer = optim.AdamW(optim.decay_groups(made, 0.1), lr=1.0)
    before = made.state_dict()
    before = {name: value.copy() for name, value in before.items()}
    for parameter in made.parameters():
        parameter.grad = np.zeros(parameter.shape, np.float32)
    optimizer.step()
    for name, value in made.state_dict().items():
        np.testing.assert_allclose(value, before[name] * (0.9 if name in ("0.weight", "4.weight") else 1), rtol=1e-6)


class MyNorm(nn.Module):
    def __init__(self):
        self.weight = nn.Parameter(np.ones((2, 3), np.float32))


def test_norms_of_several_axes_and_shared_weights():
    first, norm = nn.Linear(3, 3), MyNorm()
    made = nn.Sequential(first, norm, first)
    weights, others = optim.decay_groups(made, 0.1)
    assert weights["params"] == [first.weight]
    assert others["params"] == [first.bias, norm.weight]


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_weights_stay_within_their_norm(backend):
    made = model(np.float64 if backend == "reference" else np.float32)
    rng = np.random.default_rng(0)
    with nnk.use_backend(backend):
        optim.max_norm_(made, 0.5)
        optimizer = optim.SGD(made.parameters(), lr=1.0)
        for step in range(4):
            for name, parameter in made.named_parameters():
                norms = np.sqrt((parameter.data.reshape(len(parameter.data), -1) ** 2).sum(1))
                if name in ("0.weight", "4.weight"):
                    assert norms.max() <= 0.5 * (1 + 1e-6)
                elif step:
                    assert norms.max() > 0.5
                parameter.grad = rng.standard_normal(parameter.shape).astype(parameter.dtype)
            optimizer.step()
        optim.max_norm_(made, 0.2)  # another limit takes the place of the first
    assert made[0].weight.constraint == optim.MaxNorm(0.2)


def test_what_cannot_be_bound():
    with pytest.raises(ValueError, match="limit is 0, expected above 0"):
        optim.MaxNorm(0)
    made = model()
    made[4].weight.constraint = print
    with pytest.raises(ValueError, match=r"shape \(5, 144\) has the constraint"):
        optim.max_norm_(made, 1.0)
    assert made[0].weight.constraint is None


def noisy(backend, threads=None):
    """The parameters after two updates of gradient 0, with noise."""
    before = nnk.get_num_threads()
    if threads:
        nnk.set_num_threads(threads)
    try:
        nnk.manual_seed(5)
        made = [nn.Parameter(np.zeros(shape, np.float32)) for shape in ((300, 200), (7,), (), (0, 3), (3, 2, 3, 3))]
        optimizer = optim.SGD([{"params": made, "noise": 0.1}], lr=1.0)
        with nnk.use_backend(backend):
            for _ in range(2):
                for parameter in made:
                    parameter.grad = np.zeros(parameter.shape, np.float32)
                optimizer.step()
        return made
    finally:
        nnk.set_num_threads(before)


def test_noise_on_parameters():
    made = noisy("cpu", 1)
    large = made[0].data
    assert abs(large.std() / (0.1 * np.sqrt(2)) - 1) < 0.02
    assert abs(large.mean()) < 0.002
    rows = np.corrcoef(large)
    assert np.abs(rows - np.eye(300)).max() < 0.4  # a row's noise is its own
    assert abs(np.corrcoef(large[0, :7], made[1].data)[0, 1]) < 0.99
    for again in (noisy("cpu", 2), noisy("reference")):
        for parameter, twin in zip(made, again):
            np.testing.assert_allclose(parameter.data, twin.data, rtol=1e-4, atol=1e-6)


def test_noise_goes_on_where_the_random_state_does():
    made = noisy("cpu")
    state = nnk.random.get_state()
    results = []
    for _ in range(2):
        nnk.random.set_state(state)
        parameter = nn.Parameter(made[0].data.copy())
        optimizer = optim.Adam([{"params": [parameter], "noise": 0.1}])
        parameter.grad = made[0].data
        optimizer.step()
        results.append(parameter.data)
    np.testing.assert_array_equal(*results)


def test_negative_noise():
    with pytest.raises(ValueError, match=r"noise is -0\.1, expected at least 0"):
        optim.SGD([{"params": [nn.Parameter(np.ones(2))], "noise": -0.1}])
