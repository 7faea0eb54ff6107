"""A suspicious stand-in for a backend: every call is made twice and everything around it is watched."""

import inspect

import numpy as np
import pytest

from nnk.kernels.cases._layout import LAYOUTS, blank, poison, poisoned, replica


def leaves(value):
    """The arrays in an argument."""
    if isinstance(value, np.ndarray):
        return [value]
    return [array for item in value for array in leaves(item)] if isinstance(value, (list, tuple)) else []


def outputs(returned):
    """The arrays among results; what one function makes for another, in a form of their own, is none."""
    return [r for r in returned if isinstance(r, np.ndarray)] if isinstance(returned, tuple) else leaves(returned)


def with_holes(results, arrays):
    """A tuple of these arrays that is None where `results` has none."""
    rest = iter(arrays)
    return tuple(next(rest) if isinstance(result, np.ndarray) else None for result in results)


def copied(value, buffers):
    """A copy of an argument in memory of its own; `buffers` gets each copied array with its surroundings."""
    if isinstance(value, np.ndarray):
        buffers.append(replica(value))
        return buffers[-1][0]
    return [copied(item, buffers) for item in value] if isinstance(value, list) else value


def same_bits(a, b):
    """Equal bit for bit; NaN may have any payload."""
    if a.dtype.kind != "f":
        return np.array_equal(a, b)
    return np.array_equal(a, b, equal_nan=True) and np.array_equal(
        np.signbit(a) & ~np.isnan(a), np.signbit(b) & ~np.isnan(b)
    )


class Guarded:
    """Offers an op's functions as the backend does, but calls each twice: plain, and into poisoned arrays.

    Both calls must give the same bits, whatever the layout of `out`; `out` itself must be returned; what lies
    around and between its elements, the inputs, and the first call's results must not change, and no result may
    share memory with an input. Functions that work in place are run a second time on copies instead.
    """

    def __init__(self, backend, op):
        self.backend, self.op, self.rng = backend, op, np.random.default_rng(0)

    def __getattr__(self, name):
        function = getattr(self.backend, name)
        return lambda *args, **kwargs: self._call(name, function, args, kwargs)

    def _call(self, name, function, args, kwargs):
        first = inspect.signature(function).bind(*args, **kwargs)
        second = inspect.signature(function).bind(*args, **kwargs)
        mutated = self.op.mutates.get(name, ())
        copies = []
        for argument in mutated:
            second.arguments[argument] = copied(first.arguments[argument], copies)
        constant = {k: v for k, v in first.arguments.items() if k not in mutated}
        before = [array.tobytes() for array in leaves(list(constant.values()))]

        returned = function(*first.args, **first.kwargs)
        results = outputs(returned)
        for result in results:
            for argument, value in first.arguments.items():
                aliases = any(np.may_share_memory(result, array) for array in leaves(value))
                assert not aliases, f"a result of {name} shares memory with {argument}"
        kept = [result.tobytes() for result in results]

        if "out" in inspect.signature(function).parameters:
            blanks = [blank(r.shape, r.dtype, self.rng.choice(LAYOUTS), self.rng) for r in results]
            outs = tuple(array for array, _ in blanks)
            second.arguments["out"] = with_holes(returned, outs) if isinstance(returned, tuple) else outs[0]
            again = function(*second.args, **second.kwargs)
            assert isinstance(again, tuple) == isinstance(returned, tuple), f"{name} returned {type(again)} for out"
            again = outputs(again)
            assert len(again) == len(outs)
            for i, (result, (out, buffer)) in enumerate(zip(results, blanks)):
                assert again[i] is out, f"{name} did not return out ({i})"
                assert same_bits(result, out), f"{name} gave other bits into out ({i}), strides {out.strides}"
                poison(out)
                assert poisoned(buffer), f"{name} wrote outside out ({i})"
        else:
            assert function(*second.args, **second.kwargs) is None

        for argument in mutated:
            pairs = zip(leaves(first.arguments[argument]), leaves(second.arguments[argument]))
            assert all(same_bits(a, b) for a, b in pairs), f"{name} changed {argument} in two ways"
        for array, buffer in copies:
            poison(array)
            assert poisoned(buffer), f"{name} wrote outside what it updates in place"
        after = [array.tobytes() for array in leaves(list(constant.values()))]
        assert before == after, f"{name} changed an input"
        assert kept == [result.tobytes() for result in results], f"a result of {name} changed later"
        return returned


@pytest.fixture
def guarded():
    return Guarded
