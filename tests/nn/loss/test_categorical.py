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
@pytest.mark.parametrize("name", ["CrossEntropyLoss", "NLLLoss"])
def test_label_out_of_range(reference, name, label):
    with pytest.raises(ValueError, match=rf"target holds the label {label}, expected labels from 0 to 2 or ignore"):
        getattr(nn, name)()(np.zeros((2, 3)), np.array([0, label]))


@pytest.mark.parametrize("target", [np.zeros(2), np.zeros(2, bool)])
def test_labels_that_are_no_integers(reference, target):
    with pytest.raises(TypeError, match="target has dtype"):
        nn.CrossEntropyLoss()(np.zeros((2, 3)), target)


@pytest.mark.parametrize(
    ("x", "target"),
    [
        ((2, 3), (3,)),
        ((2, 3), (2, 1)),
        ((2, 3, 4), (2,)),
        ((3,), (2,)),
        ((3,), (1,)),
        ((), ()),
        ((2, 3), ()),
        ((2, 0), (2,)),
    ],
)
@pytest.mark.parametrize("name", ["CrossEntropyLoss", "NLLLoss"])
def test_shapes_that_do_not_fit(reference, name, x, target):
    with pytest.raises(ValueError, match="has shape"):
        getattr(nn, name)()(np.zeros(x), np.zeros(target, np.int64))


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


# ---------------------------------------------------------------- class probabilities
SOFT_OPTIONS = [{}, {"label_smoothing": 0.1}, {"label_smoothing": 1.0}]
SOFT_SHAPES = [(4,), (5, 4), (2, 4, 3), (2, 4, 3, 2), (3, 1), (0, 4)]


def distributions(rng, shape):
    """Probabilities along the class axis, a third of them 0."""
    p = rng.exponential(1, shape) * (rng.random(shape) < 0.67) + 1e-9
    return p / p.sum(axis=min(len(shape) - 1, 1), keepdims=True)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("options", SOFT_OPTIONS, ids=str)
@pytest.mark.parametrize("shape", SOFT_SHAPES, ids=str)
def test_probabilities_as_in_torch(same_as_torch, rng, shape, options, weighted, reduction):
    weight = {"weight": rng.uniform(0.5, 2, shape[min(len(shape) - 1, 1)])} if weighted else {}
    x = rng.standard_normal(shape) * 3
    same_as_torch("CrossEntropyLoss", (), {"reduction": reduction, **options, **weight}, x, distributions(rng, shape))


def test_probabilities_that_are_no_distribution_as_in_torch(same_as_torch, rng):
    same_as_torch("CrossEntropyLoss", (), {}, rng.standard_normal((5, 4)), rng.standard_normal((5, 4)))


@pytest.mark.parametrize("scale", [1e4, -1e4])
def test_huge_logits_with_probabilities_as_in_torch(same_as_torch, scale):
    x = np.array([[scale, 0.0, 1.0], [0.0, scale, 1.0]])
    same_as_torch("CrossEntropyLoss", (), {"reduction": "none"}, x, np.array([[1.0, 0, 0], [0.2, 0.3, 0.5]]))


def test_huge_logits_with_probabilities_on_the_cpu():
    criterion = nn.CrossEntropyLoss(reduction="none")
    x = np.float32([[1e4, 0, -1e4], [1e4, 0, -1e4], [1e4, 1e4, 1e4]])
    q = np.float32([[1, 0, 0], [0, 0.5, 0.5], [0, 1, 0]])
    np.testing.assert_allclose(criterion(x, q), [0, 1.5e4, np.log(3)], rtol=1e-6)
    dx = criterion.backward(np.ones(3, np.float32))
    np.testing.assert_allclose(dx, [[0, 0, 0], [1, -0.5, -0.5], [1 / 3, -2 / 3, 1 / 3]], rtol=1e-6)


@pytest.mark.parametrize("reduction", ["sum", "none"])
def test_sharp_probabilities_are_labels(rng, reduction):
    x, labels = rng.standard_normal((6, 5)).astype(np.float32), rng.integers(0, 5, 6)
    criterion = nn.CrossEntropyLoss(rng.uniform(0.5, 2, 5), label_smoothing=0.2, reduction=reduction)
    dy = np.ones((6,) if reduction == "none" else (), np.float32)
    of_labels, dx = criterion(x, labels), criterion.backward(dy)
    np.testing.assert_allclose(criterion(x, np.eye(5, dtype=np.float32)[labels]), of_labels, rtol=1e-5)
    np.testing.assert_allclose(criterion.backward(dy), dx, rtol=1e-4, atol=1e-6)


def test_gradcheck_with_probabilities(rng):
    criterion = nn.CrossEntropyLoss(rng.uniform(0.5, 2, 4), label_smoothing=0.2, reduction="none")
    assert nnk.testing.gradcheck(criterion, rng.standard_normal((5, 4, 2)), distributions(rng, (5, 4, 2)))


def test_probabilities_of_another_dtype(reference):
    for dtype in (np.float32, np.int64):
        with pytest.raises(TypeError, match=f"target has dtype {np.dtype(dtype)}, expected the input's, float64"):
            nn.CrossEntropyLoss()(np.zeros((2, 3)), np.zeros((2, 3), dtype))


def test_probabilities_cannot_be_ignored(reference):
    with pytest.raises(ValueError, match="ignore_index is 1, expected less than 0 for targets that are probabilities"):
        nn.CrossEntropyLoss(ignore_index=1)(np.zeros((2, 3)), np.zeros((2, 3)))


# ---------------------------------------------------------------- negative log-likelihood
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("options", [{}, {"ignore_index": 2}], ids=str)
@pytest.mark.parametrize(("shape", "target"), [*SHAPES, ((0, 4), (0,)), ((2, 4, 0), (2, 0))])
def test_nll_as_in_torch(same_as_torch, rng, shape, target, options, weighted, reduction):
    classes = shape[min(len(shape) - 1, 1)]
    weight = {"weight": rng.uniform(0.5, 2, classes)} if weighted else {}
    x, labels = np.log(rng.uniform(0.01, 1, shape)), rng.integers(0, classes, target)
    same_as_torch("NLLLoss", (), {"reduction": reduction, **options, **weight}, x, np.asarray(labels))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_nll_of_probability_0_and_of_ignored_rows_as_in_torch(same_as_torch, reduction):
    x = np.array([[-np.inf, 0], [0, -np.inf], [-np.inf, np.nan], [-1e4, 0]])
    same_as_torch("NLLLoss", (), {"reduction": reduction}, x, np.array([0, 0, -100, 0]))
    same_as_torch("NLLLoss", (), {"reduction": reduction}, x, np.full(4, -100))


def test_nll_of_probability_0_on_the_cpu():
    criterion = nn.NLLLoss(reduction="none")
    assert criterion(np.float32([[-np.inf, 0], [-1e4, 0]]), np.array([0, 0])).tolist() == [np.inf, 1e4]
    assert criterion.backward(np.ones(2, np.float32)).tolist() == [[-1, 0], [-1, 0]]


def test_gradcheck_nll(rng):
    criterion = nn.NLLLoss(rng.uniform(0.5, 2, 4), ignore_index=2)
    assert nnk.testing.gradcheck(criterion, rng.standard_normal((5, 4, 2)), rng.integers(0, 4, (5, 2)))


def test_images_in_both_layouts(rng):
    """Channels-last memory is taken as it is, any other is converted: the same numbers."""
    x, labels = rng.standard_normal((2, 5, 4, 3)).astype(np.float32), rng.integers(0, 5, (2, 4, 3))
    last = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    q = distributions(rng, x.shape).astype(np.float32)
    cases = [(nn.NLLLoss(), labels), (nn.CrossEntropyLoss(), q), (nn.FocalLoss(), labels), (nn.MSELoss(), q)]
    for criterion, target in cases:
        loss, dx = criterion(x, target), criterion.backward()
        assert criterion(last, target) == pytest.approx(float(loss), rel=1e-6)
        np.testing.assert_allclose(criterion.backward(), dx, rtol=1e-6)
