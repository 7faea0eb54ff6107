"""Which candidate for a product is fastest, by measurement on the current device; the work of `nnk tune`.

    flush │ mark  candidate A  mark │ flush │ mark  candidate B  mark │ … wait        a round; medians count

Before each call a quarter of a gigabyte is written: the caches are then cold, and while the device is busy with that,
the host queues the call, so that the time between the marks is the device's alone. Rounds take turns among sets of
random operands. They go on until the medians of the even and of the odd rounds agree within 1 %, or the time is up. A
candidate takes the place of the default where it is at least 2 % faster.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from . import _arithmetic
from ._chooser import PRODUCTS, WGRADS, candidates, operands, wgrad_operands
from ._layout import Array, empty_image
from ._memory import empty, xp
from ._tuning import Candidate, Row, Work
from ._window import Axis

SETS = 2
FLUSHED = 1 << 28  # bytes
LEAST_ROUNDS, MOST_ROUNDS = 8, 64
AGREEMENT, GAIN = 0.01, 0.02


class Clock:
    """Takes times on the current device."""

    def __init__(self):
        self._flushed = xp().empty(FLUSHED, np.uint8)

    def round(self, calls: Iterable[Callable[[int], None]], number: int) -> list[float]:
        """Seconds on the device of each call with this number, one after the other."""
        cuda, marks = xp().cuda, []
        for call in calls:
            self._flushed.data.memset_async(0, FLUSHED)
            marks.append((cuda.Event(), cuda.Event()))
            marks[-1][0].record()
            call(number)
            marks[-1][1].record()
        cuda.get_current_stream().synchronize()
        return [cuda.get_elapsed_time(*pair) / 1e3 for pair in marks]

    def now(self) -> float:
        """Seconds on the host."""
        return time.perf_counter()


def choices(works: Iterable[Work]) -> dict[Work, tuple[Candidate, ...]]:
    """The candidates of those for which there are several."""
    capability = _arithmetic.capability()
    return {work: found for work in works if len(found := candidates(work, capability)) > 1}


def tune(todo: dict[Work, tuple[Candidate, ...]], clock: Clock, seconds: float) -> Iterator[tuple[Work, Row]]:
    """Measure `choices`, in order, and share `seconds` among them; yield each when it is done.

    Compiling counts. What there is no time left for is left out.
    """
    end = clock.now() + seconds
    for i, (work, found) in enumerate(todo.items()):
        left = end - clock.now()
        if left <= 0:
            return
        yield work, _fastest(calls(work, found), clock, clock.now() + left / (len(todo) - i))


def _fastest(calls: dict[Candidate, Callable[[int], None]], clock: Clock, end: float) -> Row:
    """The first call is the default's."""
    for number in range(SETS):  # compiles, fills pools
        clock.round(calls.values(), number)
    rounds: list[list[float]] = []
    while len(rounds) < MOST_ROUNDS:
        rounds.append(clock.round(calls.values(), len(rounds)))
        if len(rounds) >= LEAST_ROUNDS and (_settled(rounds) or clock.now() > end):
            break
    times = dict(zip(calls, _medians(rounds)))
    default, best = next(iter(times)), min(times, key=times.get)
    if times[best] > (1 - GAIN) * times[default]:
        best = default
    return Row(best, times[best], default, times[default])


def _medians(rounds: list[list[float]]) -> list[float]:
    return [statistics.median(times) for times in zip(*rounds)]


def _settled(rounds: list[list[float]]) -> bool:
    halves = zip(_medians(rounds[::2]), _medians(rounds[1::2]))
    return all(abs(even - odd) <= AGREEMENT * odd for even, odd in halves)


def calls(work: Work, found: Iterable[Candidate]) -> dict[Candidate, Callable[[int], None]]:
    """What makes the candidates do the work, on operands of their own by number."""
    prepare = {"product": _product, "wgrad": _wgrad, "strict product": _product, "strict wgrad": _wgrad}
    sets = [prepare[work.kind](work, np.random.default_rng(number)) for number in range(SETS)]

    def call(one: Candidate) -> Callable[[int], None]:
        return lambda number: sets[number % SETS](one)

    return {one: call(one) for one in found}


def _product(work: Work, rng: np.random.Generator) -> Callable[[Candidate], Any]:
    x, y, weight = _image(work.x, work.y_dtype, rng), empty_image(*work.y, work.y_dtype), _weight(work, rng)
    shared = work.groups, work.window

    def call(one: Candidate) -> None:
        """With the copy of the images, where a rung needs one, and the packing, which each has of its own."""
        rung, tile = one
        factors = operands(rung, x, weight, *shared, False, work.x_dtype, work.y_dtype)
        PRODUCTS[rung].convolve(*factors, y, *shared, tile=tile)

    return call


def _wgrad(work: Work, rng: np.random.Generator) -> Callable[[Candidate], Any]:
    x = _image(work.x, work.x_dtype, rng)
    dy = _image((work.x[0], work.y[0], *(axis.count for axis in work.window)), work.x_dtype, rng)

    def call(one: Candidate) -> Array:
        """With the copies of the images, where a rung needs them."""
        rung, tile = one
        factors = wgrad_operands(rung, dy, x, work.groups, work.x_dtype)
        return WGRADS[rung].wgrad(*factors, work.y, work.groups, work.window, tile=tile)

    return call


def _image(shape: tuple[int, int, int, int], dtype: Any, rng: np.random.Generator) -> Array:
    x = empty_image(*shape, dtype)
    x[...] = _normal(shape, rng).astype(dtype)
    return x


def _weight(work: Work, rng: np.random.Generator) -> Array:
    """One that has all taps of the window."""
    def size(axis: Axis) -> int:
        return axis.first + max(axis.taps - 1, 0) * axis.every + 1

    shape = work.y[1], work.x[1] // work.groups, *map(size, work.window)
    weight = empty(shape, work.x_dtype)
    weight[...] = _normal(shape, rng).astype(work.x_dtype)
    return weight


def _normal(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Numbers made on the device: zeros would cost it less power, and so less time."""
    generator = xp().random.default_rng(int(rng.integers(2**31)))
    return generator.standard_normal(shape, dtype=np.float32)
