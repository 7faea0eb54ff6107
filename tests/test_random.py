import json
import threading

import numpy as np
import pytest

import nnk
from nnk import random


def draw():
    return random.generator().integers(0, 2**40, 4).tolist(), random.next_call()


def test_a_seed_repeats():
    nnk.manual_seed(3)
    first = [draw(), draw()]
    nnk.manual_seed(np.int64(3))
    assert [draw(), draw()] == first
    assert first[0][1] == (3, 0)
    assert first[1][1] == (3, 1)
    nnk.manual_seed(4)
    assert draw() != first[0]


def test_state_goes_through_json():
    nnk.manual_seed(2**64 - 1)
    draw()
    state = json.loads(json.dumps(random.get_state()))
    expected = [draw(), draw()]
    nnk.manual_seed(0)
    random.set_state(state)
    assert [draw(), draw()] == expected


def test_calls_from_several_threads_never_repeat():
    calls = []
    threads = [threading.Thread(target=lambda: calls.extend(random.next_call() for _ in range(500))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(calls)) == 2000


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_seed_out_of_range(seed):
    with pytest.raises(ValueError, match="expected 0 <= seed"):
        nnk.manual_seed(seed)


@pytest.mark.parametrize("seed", [1.0, "1", None, True])
def test_seed_that_is_no_int(seed):
    with pytest.raises(TypeError, match="expected an int"):
        nnk.manual_seed(seed)
