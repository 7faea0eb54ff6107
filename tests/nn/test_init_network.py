"""Initialisations of whole networks: Fixup, layer-sequential unit variance."""

import numpy as np
import pytest

import nnk
from nnk import nn, optim
from nnk.nn import init


def outputs(model, x, kinds):
    """The outputs of all modules of these kinds, in the order of their calls."""
    found = []
    with nnk.no_grad(), nn.watch(lambda module, y: found.append(y) if isinstance(module, kinds) else None):
        model(x)
    return found


def block(channels):
    body = nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1)
    return nn.Residual(nn.Sequential(*body))


def resnet(blocks, channels=6):
    layers = [nn.Conv2d(1, channels, 3, padding=1), nn.ReLU()]
    for _ in range(blocks):
        layers += [block(channels), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 3))


@pytest.fixture
def x():
    return np.random.default_rng(0).standard_normal((16, 1, 8, 8)).astype(np.float32)


def test_fixup_by_its_rules():
    nnk.manual_seed(0)
    model = init.fixup_(resnet(8, channels=32))
    plain = 2 / (9 * 32)  # the variance that Kaiming gives
    for module in model:
        if isinstance(module, nn.Residual):
            first, _, last = module.body
            assert not last.weight.data.any()
            assert abs(first.weight.data.var() / (plain / 8) - 1) < 0.1
            assert not first.bias.data.any()
    assert abs(model[0].weight.data.std() / np.sqrt(2 / 9) - 1) < 0.15
    assert not model[-1].weight.data.any()


def test_fixup_scales_by_the_number_of_layers_in_the_branch():
    nnk.manual_seed(0)
    bodies = [nn.Sequential(*(nn.Linear(50, 50) for _ in range(layers))) for layers in (1, 2, 4)]
    shortcut = nn.Linear(50, 50)
    model = init.fixup_(nn.Sequential(*(nn.Residual(body) for body in bodies[:2]), nn.Residual(bodies[2], shortcut)))
    for body, factor in zip(bodies, (None, 3**-0.5, 3 ** (-1 / 6))):
        *others, last = body
        assert not last.weight.data.any()
        for layer in others:
            assert abs(layer.weight.data.std() / (factor * np.sqrt(2 / 50)) - 1) < 0.06
    assert abs(shortcut.weight.data.std() / np.sqrt(2 / 50) - 1) < 0.06
    assert model[0].body is bodies[0]


def test_fixup_trains_a_deep_network_without_normalisation(x):
    nnk.manual_seed(1)
    deep = resnet(40)
    for module in deep.modules():
        if isinstance(module, nn.Conv2d):
            init.kaiming_normal_(module.weight, nonlinearity="relu")
    first, *_, last = outputs(deep, x, nn.Residual)
    assert last.std() > 1e4 * first.std()  # without it every block doubles the variance
    first, *_, last = outputs(init.fixup_(deep), x, nn.Residual)
    np.testing.assert_array_equal(first, last)

    labels = (x.mean((1, 2, 3)) > 0).astype(int) + (x.std((1, 2, 3)) > 1)
    criterion, optimizer = nn.CrossEntropyLoss(), optim.SGD(deep.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for _ in range(60):
        losses.append(float(criterion(deep(x), labels)))
        optimizer.zero_grad()
        deep.backward(criterion.backward(), input_grad=False)
        optimizer.step(clip_norm=1.0)
    assert losses[0] == pytest.approx(np.log(3))
    assert losses[-1] < 0.7 * losses[0]


def test_fixup_needs_branches():
    with pytest.raises(ValueError, match="no Residual with weights"):
        init.fixup_(nn.Sequential(nn.Linear(2, 2), nn.Residual(nn.ReLU())))


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh])
def test_lsuv_gives_every_layer_unit_variance(x, activation):
    nnk.manual_seed(2)
    layers = [nn.Conv2d(1, 6, 3, padding=1), activation()]
    for _ in range(5):
        layers += [nn.Conv2d(6, 6, 3, padding=1), activation()]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(6 * 64, 10))
    assert init.lsuv_(model, 30 * x + 5) is model
    made = outputs(model, 30 * x + 5, (nn.Conv2d, nn.Linear))
    assert len(made) == 7
    for y in made:
        assert abs(y.var() - 1) <= 0.1
    rows = model[2].weight.data.reshape(6, -1)
    gram = rows @ rows.T
    np.testing.assert_allclose(gram, gram[0, 0] * np.eye(6), atol=1e-5 * gram[0, 0])


def test_lsuv_leaves_all_else_as_it_is(x):
    layers = nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(108, 2)
    model = nn.Sequential(*layers)
    before = model[1].state_dict()
    before = {name: value.copy() for name, value in before.items()}
    generator = np.random.default_rng(0)
    state = nnk.random.get_state()
    init.lsuv_(model, x, generator=generator)
    assert nnk.random.get_state() == state
    for name, value in model[1].state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    assert not model[0].bias.data.any()
    with pytest.raises(RuntimeError, match="no forward to go back through"):
        model.backward(np.zeros((16, 2), np.float32))


def test_lsuv_names_the_layer_that_is_constant(x):
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 2))
    with pytest.raises(ValueError, match=r"the output of 0 has variance 0\.0"):
        init.lsuv_(model, 0 * x)
    with pytest.raises(ValueError, match="the output of 0 has variance nan"):
        init.lsuv_(model, np.nan * x)
