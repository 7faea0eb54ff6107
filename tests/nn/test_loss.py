import numpy as np
import pytest

import nnk
from nnk import nn

SHAPES = [((4,), ()), ((5, 4), (5,)), ((2, 4, 3), (2, 3)), ((2, 4, 3, 2), (2, 3, 2)), ((3, 1), (3,))]
OPTIONS = [{}, {"label_smoothing": 0.1}, {"ignore_index": 2}, {"ignore_index": 2, "label_smoothing": 1.0}]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize(("shape", "target"), SHAPES)
def test_as_in_torch(same_as_torch, rng, shape, target, options, weighted, reduction):
    classes = shape[min(len(shape) - 1, 1)]
    x = rng.standard_normal(shape) * 3
    labels = rng.integers(0, classes, target)
    weight = {"weight": rng.uniform(0.5, 2, classes)} if weighted else {}
    same_as_torch("CrossEntropyLoss", (), {"reduction": reduction, **options, **weight}, x, np.asarray(labels))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_all_ignored_and_empty_as_in_torch(same_as_torch, rng, reduction):
    x = rng.standard_normal((3, 4))
    same_as_torch("CrossEntropyLoss", (), {"reduction": reduction}, x, np.full(3, -100))
    same_as_torch("CrossEntropyLoss", (), {"reduction": reduction}, x[:0], np.zeros(0, np.int64))


@pytest.mark.parametrize("scale", [1e4, -1e4])
def test_huge_logits_as_in_torch(same_as_torch, scale):
    same_as_torch("CrossEntropyLoss", (), {}, np.array([[scale, 0.0, 1.0], [0.0, scale, 1.0]]), np.array([0, 2]))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.int64, np.uint64])
def test_any_integer_labels(reference, rng, dtype):
    x = rng.standard_normal((4, 3))
    labels = np.array([0, 2, 1, 1])
    assert nn.CrossEntropyLoss()(x, labels.astype(dtype)) == nn.CrossEntropyLoss()(x, labels)


def test_loss_is_a_0d_array_and_backward_starts_from_one(reference, rng):
    criterion = nn.CrossEntropyLoss()
    x = rng.standard_normal((4, 3)).astype(np.float32)
    loss = criterion(x, [0, 1, 2, 0])
    assert type(loss) is np.ndarray
    assert loss.shape == ()
    assert loss.dtype == np.float32
    dx = criterion.backward()
    criterion(x, [0, 1, 2, 0])
    np.testing.assert_allclose(criterion.backward(2.0), 2 * dx, rtol=1e-6)
    criterion(x, [0, 1, 2, 0])
    np.testing.assert_array_equal(criterion.backward(np.float32(1)), dx)


def test_train_and_eval_return_self():
    criterion = nn.CrossEntropyLoss()
    assert criterion.eval() is criterion
    assert criterion.train() is criterion


def test_weight_is_a_buffer(rng):
    weight = np.ones(3, np.float32)
    assert list(nn.CrossEntropyLoss(weight).state_dict()) == ["weight"]
    assert not nn.CrossEntropyLoss().state_dict()


def test_weights_of_any_dtype(reference, rng):
    x = rng.standard_normal((4, 3)).astype(np.float32)
    loss = nn.CrossEntropyLoss(np.array([1, 2, 3]))(x, [0, 1, 2, 0])
    assert loss.dtype == np.float32
    assert loss == nn.CrossEntropyLoss(np.array([1.0, 2.0, 3.0]))(x, [0, 1, 2, 0])


def test_gradcheck(rng):
    criterion = nn.CrossEntropyLoss(rng.uniform(0.5, 2, 4), label_smoothing=0.2, reduction="none")
    assert nnk.testing.gradcheck(criterion, rng.standard_normal((5, 4, 2)), rng.integers(0, 4, (5, 2)))


@pytest.mark.parametrize("label", [3, -1, 2**62, -(2**63)])
def test_label_out_of_range(reference, label):
    with pytest.raises(ValueError, match=rf"target holds the label {label}, expected labels from 0 to 2"):
        nn.CrossEntropyLoss()(np.zeros((2, 3)), np.array([0, label]))


@pytest.mark.parametrize("target", [np.zeros(2), np.zeros(2, bool), np.zeros((2, 3))])
def test_labels_that_are_no_integers(reference, target):
    with pytest.raises(TypeError, match="target has dtype"):
        nn.CrossEntropyLoss()(np.zeros((2, 3)), target)


@pytest.mark.parametrize(
    ("x", "target"),
    [((2, 3), (3,)), ((2, 3), (2, 1)), ((2, 3, 4), (2,)), ((3,), (2,)), ((3,), (1,)), ((), ()), ((2, 3), ())],
)
def test_shapes_that_do_not_fit(reference, x, target):
    with pytest.raises(ValueError, match="has shape"):
        nn.CrossEntropyLoss()(np.zeros(x), np.zeros(target, np.int64))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reduction": "average"}, "reduction is 'average'"),
        ({"label_smoothing": 1.5}, "label_smoothing is 1.5"),
        ({"size_average": True}, "size_average=True"),
        ({"reduce": False}, "reduce=False"),
        ({"weight": np.ones((2, 2))}, "weight has shape"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        nn.CrossEntropyLoss(**options)


def test_weights_for_another_number_of_classes(reference):
    with pytest.raises(ValueError, match=r"weight has shape \(2,\), expected \(3,\)"):
        nn.CrossEntropyLoss(np.ones(2))(np.zeros((2, 3)), np.array([0, 1]))
