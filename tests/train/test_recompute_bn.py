import numpy as np
import pytest

import nnk
from nnk import nn
from nnk.data import ArrayDataset, DataLoader
from nnk.train import recompute_bn


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def network():
    nnk.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.9), nn.Flatten(), nn.Linear(144, 3),
        nn.BatchNorm1d(3, momentum=None), nn.Sigmoid(),
    )  # fmt: skip


def test_one_layer_has_the_statistics_of_the_whole_set(rng):
    x = (rng.standard_normal((40, 3, 4, 5)) * [[[2]], [[3]], [[0.1]]] + 7).astype(np.float32)
    norm = nn.BatchNorm2d(3)
    recompute_bn(norm, [x[:10], x[10:15], x[15:]])
    np.testing.assert_allclose(norm.running_mean, x.mean(axis=(0, 2, 3)), rtol=1e-5)
    parts = [(10, x[:10]), (5, x[10:15]), (25, x[15:])]
    var = sum(n * part.var(axis=(0, 2, 3), ddof=1) for n, part in parts) / 40
    np.testing.assert_allclose(norm.running_var, var, rtol=1e-4)
    assert norm.num_batches_tracked == 3


def test_as_in_torch(rng):
    torch = pytest.importorskip("torch")
    images = rng.standard_normal((24, 1, 8, 8)).astype(np.float32)
    ours = network()
    layers = [torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.Identity()]
    layers += [torch.nn.Flatten(), torch.nn.Linear(144, 3), torch.nn.BatchNorm1d(3), torch.nn.Sigmoid()]
    theirs = torch.nn.Sequential(*layers)
    theirs.load_state_dict({key: torch.tensor(value) for key, value in ours.state_dict().items()})
    torch.optim.swa_utils.update_bn([(torch.tensor(x),) for x in np.split(images, 4)], theirs)
    recompute_bn(ours, DataLoader(ArrayDataset(images), 6))
    for key, value in theirs.state_dict().items():
        np.testing.assert_allclose(ours.state_dict()[key], value.numpy(), rtol=1e-4, atol=1e-5, err_msg=key)


def test_modes_and_momenta_are_as_before(rng):
    model = network()
    model[1].eval()
    modes = [module.training for module in model.modules()]
    recompute_bn(model, [(rng.standard_normal((6, 1, 8, 8)).astype(np.float32), np.zeros(6))])
    assert [module.training for module in model.modules()] == modes
    assert (model[1].momentum, model[6].momentum) == (0.1, None)
    assert not model._pending


def test_dropout_passes(rng):
    model = nn.Sequential(nn.Dropout(0.9), nn.BatchNorm1d(3)).train()
    x = rng.standard_normal((20, 3)).astype(np.float32)
    recompute_bn(model, [x])
    np.testing.assert_allclose(model[1].running_mean, x.mean(axis=0), atol=1e-6)


def test_a_norm_used_twice_counts_both_uses(rng):
    norm = nn.BatchNorm1d(2, affine=False)
    x = rng.standard_normal((50, 2)).astype(np.float32) + 4
    recompute_bn(nn.Sequential(norm, nn.Identity(), norm), [x])
    np.testing.assert_allclose(norm.running_mean, x.mean(axis=0) / 2, rtol=1e-5)  # the second mean is 0


def test_other_norms_with_running_statistics(rng):
    x = rng.standard_normal((8, 3, 4, 4)).astype(np.float32) + 2
    norms = [nn.BatchInstanceNorm2d(3), nn.InstanceNorm2d(3, track_running_stats=True)]
    for norm in norms:
        recompute_bn(norm, [x])
        np.testing.assert_allclose(norm.running_mean, x.mean(axis=(0, 2, 3)), rtol=1e-5)


def test_the_order_of_later_epochs_is_untouched():
    loader = DataLoader(ArrayDataset(np.zeros((6, 2), np.float32)), 3, shuffle=True, seed=1)
    recompute_bn(nn.BatchNorm1d(2), loader)
    assert loader.epoch == 0


def test_nothing_to_compute():
    model = nn.Sequential(nn.ReLU(), nn.BatchNorm1d(2, track_running_stats=False))
    recompute_bn(model, iter(()))
    with pytest.raises(ValueError, match="loader has no batch"):
        recompute_bn(nn.BatchNorm1d(2), [])
