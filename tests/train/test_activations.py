import numpy as np
import pytest

import nnk
from nnk import nn
from nnk.train import activation_stats


def given(*layers):
    """A model that shows the layers these numbers, and the statistics of the layers."""
    x = np.array([[-3.0, -1, 0, 0.5], [-3, -2, 2, 9]], np.float32)
    return activation_stats(nn.Sequential(*layers), x)


@pytest.mark.parametrize(
    ("layer", "saturated", "dead"),
    [
        (nn.ReLU(), 5 / 8, 2 / 4),
        (nn.ReLU6(), 6 / 8, 2 / 4),
        (nn.Tanh(), 3 / 8, 1 / 4),
        (nn.Sigmoid(), 1 / 8, 0),
        (nn.Hardsigmoid(), 3 / 8, 1 / 4),
        (nn.ELU(0.5), 0, 0),
        (nn.Sequential(nn.Identity(), nn.SELU())[1], 0, 0),
    ],
)
def test_saturated_outputs_and_dead_units(layer, saturated, dead):
    (stats,) = given(layer)
    assert (stats.name, stats.kind) == ("0", type(layer).__name__)
    assert stats.saturated == saturated
    assert stats.dead == dead


def test_elus_are_flat_at_their_floor():
    for layer in (nn.ELU(2.0), nn.SELU()):
        (stats,) = activation_stats(nn.Sequential(layer), np.array([[-9.0, -9, 1], [-9, 0, 1]], np.float32))
        assert stats.saturated == 0.5
        assert stats.dead == pytest.approx(1 / 3)


def test_numbers_histogram_and_order_of_layers():
    nnk.manual_seed(0)
    conv, norm = nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3)
    model = nn.Sequential(nn.Sequential(conv, norm), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(108, 2))
    x = np.random.default_rng(0).standard_normal((5, 1, 8, 8)).astype(np.float32)
    state, before = nnk.random.get_state(), {name: value.copy() for name, value in norm.state_dict().items()}
    stats = activation_stats(model, x)
    assert [(layer.name, layer.kind) for layer in stats] == [
        ("0.0", "Conv2d"), ("0.1", "BatchNorm2d"), ("1", "ReLU"), ("2", "Dropout"), ("3", "Flatten"), ("4", "Linear"),
    ]  # fmt: skip
    assert len(stats) == 6
    y = conv(x)
    assert stats[0].mean == pytest.approx(y.mean(), abs=1e-6)
    assert stats[0].std == pytest.approx(y.std(), rel=1e-5)
    assert stats[0].saturated is None
    assert stats[0].dead is None
    assert stats[1].std == pytest.approx(1, rel=1e-3)
    assert stats[0].counts.sum() == y.size
    assert (stats[0].edges[0], stats[0].edges[-1]) == (y.min(), y.max())
    # Nothing else has changed.
    assert nnk.random.get_state() == state
    for name, value in norm.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    only = activation_stats(model, x, (nn.ReLU, nn.Linear))
    assert [layer.kind for layer in only] == ["ReLU", "Linear"]
    with pytest.raises(ValueError, match="calls no layer of kinds"):
        activation_stats(model, x, nn.Tanh)


def test_the_table():
    lines = repr(given(nn.ReLU(), nn.Linear(4, 1))).splitlines()
    assert lines[0].split() == ["layer", "kind", "mean", "std", "saturated", "dead"]
    assert set(lines[1]) == {"-"}
    assert lines[2].split() == ["0", "ReLU", "1.438", "2.931", "62.5%", "50.0%"]
    assert lines[3].split()[:2] == ["1", "Linear"]
    assert len(lines[3].split()) == 4


def test_outputs_that_are_not_finite_show_in_the_numbers():
    (stats,) = activation_stats(nn.Sequential(nn.ReLU()), np.array([[1.0, np.nan], [np.inf, 2]], np.float32))
    assert np.isnan(stats.mean)
    assert stats.counts.sum() == 2


def test_the_plot(tmp_path):
    pytest.importorskip("matplotlib")
    stats = activation_stats(nn.Sequential(*(nn.Tanh() for _ in range(8))), np.zeros((2, 3), np.float32))
    figure = stats.plot()
    drawn = [axes for axes in figure.axes if axes.axison]
    assert len(drawn) == 8
    assert drawn[0].get_title().startswith("0 Tanh")
    figure.savefig(tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes()[:4] == b"\x89PNG"
