import numpy as np
import pytest

import nnk
from nnk import models, nn


@pytest.mark.parametrize("name", models.names())
@pytest.mark.parametrize("image_shape", [(1, 8, 8), (3, 9, 12)])
def test_every_model_runs_forward_and_backward(name, image_shape):
    nnk.manual_seed(0)
    model = models.create(name, image_shape, 7)
    x = np.random.default_rng(0).normal(size=(3, *image_shape)).astype(np.float32)
    y = model(x)
    assert y.shape == (3, 7)
    assert model.backward(np.ones_like(y)).shape == x.shape
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert all(np.isfinite(grad).all() for grad in gradients.values())
    assert all(np.abs(grad).max() > 0 for name, grad in gradients.items() if name.endswith("weight"))


@pytest.mark.parametrize("name", models.names())
def test_a_seed_gives_the_same_model(name):
    states = []
    for seed in (1, 1, 2):
        nnk.manual_seed(seed)
        states.append(models.create(name, (1, 8, 8), 10).state_dict())
    first, same, other = states
    assert all(np.array_equal(first[key], same[key]) for key in first)
    assert any(not np.array_equal(first[key], other[key]) for key in first)


def test_resnet20_is_the_papers():
    model = models.resnet20()
    # He et al. give 0.27 M; with projections (option B) and batch norm it is 272,474.
    assert sum(parameter.size for parameter in model.parameters()) == 272_474
    assert sum(isinstance(module, nn.Conv2d) for module in model.modules()) == 19 + 2


def test_resnet18_and_mobilenet_have_their_papers_sizes():
    parameters = {
        model.__name__: sum(parameter.size for parameter in model(num_classes=1000).parameters())
        for model in (models.resnet18, models.mobilenet)
    }
    # 11,689,512 for ImageNet, whose first filters are 7×7: 64 * 3 * (49 - 9) numbers more.
    assert parameters == {"resnet18": 11_689_512 - 7_680, "mobilenet": 4_231_976}


def test_resnet50_has_the_size_of_pytorchs():
    assert sum(parameter.size for parameter in models.resnet50().parameters()) == 25_557_032


def test_lenet_has_the_squashing_function_asked_for():
    kinds = {name: type(models.lenet((1, 8, 8), activation=name)[1]) for name in ("tanh", "sigmoid")}
    assert kinds == {"tanh": nn.Tanh, "sigmoid": nn.Sigmoid}
    with pytest.raises(ValueError, match="activation is 'relu', expected 'tanh' or 'sigmoid'"):
        models.lenet(activation="relu")


def test_an_unknown_name_lists_the_known_ones():
    known = "digits_cnn, lenet, maxout_cnn, mobilenet, resnet18, resnet20, resnet50, selu_cnn, vgg8"
    with pytest.raises(ValueError, match=f"unknown model 'resnet', known are: {known}"):
        models.create("resnet", (1, 8, 8), 10)


@pytest.mark.parametrize(
    ("model", "image_shape"), [("vgg8", (3, 7, 8)), ("lenet", (1, 3, 8)), ("digits_cnn", (1, 1, 8)), ("vgg8", (8, 8))]
)
def test_images_that_are_too_small_are_refused(model, image_shape):
    with pytest.raises(ValueError, match=r"expected \(channels, height, width\) with sides of at least"):
        models.create(model, image_shape, 10)
