import numpy as np
import pytest

from nnk.kernels import reference
from nnk.kernels.reference._philox import philox, words


@pytest.mark.parametrize(
    ("counter", "key", "want"),
    [
        ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_philox_gives_the_published_words(counter, key, want):
    """The known answers for philox4x32-10 that Random123 publishes."""
    counter, key, want = ([int(word, 16) for word in text.split()] for text in (counter, key, want))
    assert philox(np.array(counter, np.uint32), tuple(key)).tolist() == want


def test_elements_find_their_words_as_documented():
    seed, call = 0x1122334455667788, 0x99AABBCCDDEEFF00
    drawn = words(200, seed, call)
    for i in (0, 1, 15, 16, 63, 64, 130, 199):
        block, r = divmod(i, 64)
        counter = np.array([16 * block + r % 16, 0, 0xDDEEFF00, 0x99AABBCC], np.uint32)
        assert drawn[i] == philox(counter, (0x55667788, 0x11223344))[r // 16]


def test_position_counts_in_channels_last_order():
    shape = (2, 3, 4, 5)
    image = reference.dropout(np.ones(shape), p=0.5, seed=1, call=2)
    flat = reference.dropout(np.ones(120), p=0.5, seed=1, call=2)
    np.testing.assert_array_equal(image.transpose(0, 2, 3, 1).ravel(), flat)


def test_the_mask_depends_on_seed_and_call_alone():
    draw = lambda x, **key: reference.dropout(x, **({"p": 0.5, "seed": 1, "call": 2} | key)) != 0  # noqa: E731
    x = np.ones(1000)
    assert np.array_equal(draw(x), draw(-2 * x))
    assert not np.array_equal(draw(x), draw(x, call=3))
    assert not np.array_equal(draw(x), draw(x, seed=2))
    assert not np.array_equal(draw(x), draw(x, seed=1 + 2**32))
    assert not np.array_equal(draw(x), draw(x, call=2 + 2**32))


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_as_many_are_dropped_as_asked_for(p):
    n = 100_000
    y = reference.dropout(np.ones(n), p=p, seed=3, call=4)
    deviation = np.sqrt(n * p * (1 - p))
    assert abs((y == 0).sum() - n * p) <= 4 * deviation
    assert np.allclose(y[y != 0], 1 / (1 - p) if p < 1 else 0)


def test_what_is_dropped_is_zero_even_if_it_was_not_finite():
    x = np.array([np.nan, np.inf, -np.inf, 1.0])
    assert not reference.dropout(x, p=1.0, seed=0, call=0).any()
