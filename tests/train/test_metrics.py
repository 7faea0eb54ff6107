import numpy as np
import pytest

from nnk.train import accuracy, confusion_matrix, plot_confusion, top_k


def test_top_k(rng):
    output, target = rng.standard_normal((50, 7)), rng.integers(0, 7, 50)
    order = np.argsort(-output, axis=1)
    for k in range(1, 8):
        assert top_k(k)(output, target) == np.mean([t in order[i, :k] for i, t in enumerate(target)])
    assert top_k(1)(output, target) == accuracy(output, target)
    with pytest.raises(ValueError, match="k is 8, expected at most the number of classes, 7"):
        top_k(8)(output, target)
    with pytest.raises(ValueError, match="k is 0"):
        top_k(0)


def test_top_k_of_pixels(rng):
    output, target = rng.standard_normal((3, 5, 2, 2)), rng.integers(0, 5, (3, 2, 2))
    assert top_k(1)(output, target) == accuracy(output, target)
    assert top_k(5)(output, target) == 1


def test_confusion_matrix(rng):
    output, target = rng.standard_normal((60, 4)), rng.integers(0, 4, 60)
    matrix = confusion_matrix(output, target)
    expected = np.zeros((4, 4), int)
    for row, t in zip(output, target):
        expected[t, row.argmax()] += 1
    np.testing.assert_array_equal(matrix, expected)
    np.testing.assert_array_equal(confusion_matrix(output.argmax(1), target), expected)
    assert confusion_matrix(np.zeros((0, 3)), np.zeros(0, int)).sum() == 0
    assert confusion_matrix([0], [0], classes=5).shape == (5, 5)
    for dtype in (np.uint8, np.int8, np.uint64):  # 27 * 28 is more than 8 bits hold
        labels = np.array([27, 3, 27], dtype)
        np.testing.assert_array_equal(np.argwhere(confusion_matrix(labels, labels)), [[3, 3], [27, 27]])


def test_confusion_of_classes_that_are_not_there():
    with pytest.raises(ValueError, match="target holds class 0 to 3, expected 0 to 2"):
        confusion_matrix(np.zeros((2, 3)), np.array([0, 3]))
    with pytest.raises(TypeError, match="target holds float32, expected classes as ints"):
        confusion_matrix(np.zeros((2, 3)), np.zeros(2, np.float32))
    with pytest.raises(ValueError, match="output has shape"):
        confusion_matrix(np.zeros((2, 3)), np.array([0]))


def test_picture():
    pytest.importorskip("matplotlib")
    figure = plot_confusion(np.array([[5, 1], [0, 4]]), ["cat", "dog"])
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cat", "dog"]
    assert sorted(text.get_text() for text in axes.texts) == ["1", "4", "5"]
    assert axes.get_title() == "9 of 10 right: 90.0 %"


def test_picture_of_many_classes():
    pytest.importorskip("matplotlib")
    figure = plot_confusion(np.eye(100, dtype=int))
    assert max(figure.get_size_inches()) < 15
    assert not figure.axes[0].texts
    assert len(figure.axes[0].get_xticks()) == 50


@pytest.mark.parametrize(
    ("matrix", "names", "message"),
    [
        (np.ones((2, 3), int), None, r"matrix has shape \(2, 3\)"),
        (np.ones((2, 2), int), ["cat"], "names has 1 names, expected 2"),
    ],
)
def test_no_picture(matrix, names, message):
    pytest.importorskip("matplotlib")
    with pytest.raises(ValueError, match=message):
        plot_confusion(matrix, names)


def test_targets_that_would_broadcast(rng):
    output = rng.standard_normal((5, 3))
    for metric in (accuracy, top_k(2)):
        with pytest.raises(ValueError, match=r"target has shape \(5, 1\) for an output \(5, 3\)"):
            metric(output, np.zeros((5, 1), int))
