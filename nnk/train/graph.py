"""Training steps as CUDA graphs: captured once for a shape of batches, then repeated with one launch each.

Launching the hundreds of kernels of a step takes the host longer than the GPU needs for small images. A CUDA graph
holds all launches with their arguments, and starts them together:

    eager step, twice    compiles and loads kernels, makes the states of the optimiser
    capture              the same Python code once more; launches are recorded, nothing runs
    replay               the batch into the arrays that the graph reads, its numbers into their slots, one launch

What a graph holds are addresses and numbers of the moment of capture. So its memory comes from a pool of its own, which
lives as long as the graph; what changes in every step goes through `nnk.dials`; and whatever else is assigned, to a
module, a parameter, an option or a state, drops all graphs (`_Held`). Where options of the optimiser are assigned again
and again, as by a schedule of the momentum, or its update cannot be captured, graphs from then on end with the
gradients, and the update is launched behind them: one launch for all parameters, one more for their norm.

Source: CUDA C++ Programming Guide, "CUDA Graphs".
"""

from __future__ import annotations

import operator
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from nnk import backend, nn, random
from nnk.dials import Dials
from nnk.nn import pending

from .step import Step

WARM_UP = 2  # eager steps of a shape before its capture
MOST_GRAPHS = 4  # shapes that are kept, each with the memory of a step
FEW_REPLAYS = 10  # a graph that is dropped before so many was not worth its capture
MOST_WASTED = 3  # of those, before all steps are eager
MOST_ALTERED = 3  # changes of options, before the update is no part of graphs


class StepGraphs:
    """The graphs of a trainer's step.

    Args:
        step: what is repeated.
        wanted: True captures, and raises where that cannot be; False does not; None captures models on a GPU whose
            modules, loss, metrics and optimiser are all nnk's own, and warns where that cannot be. Nobody knows what
            others compute on the host, which a replay leaves out.
    """

    def __init__(self, step: Step, wanted: bool | None = None):
        self.step, self.wanted = step, wanted
        self.graphs: OrderedDict[tuple, _Graph] = OrderedDict()
        self.seen: dict[tuple, int] = {}
        self.held: _Held | None = None
        self.with_update = True
        self.largest = self.wasted = self.altered = 0

    def new_epoch(self) -> None:
        """Take whatever size of batch comes next for a whole one."""
        self.largest = 0

    def repeat(self, x: Any, y: Any) -> bool:
        """Make the update from a batch by a graph; False where that is for the caller to do.

        The first batches of a shape are the caller's, those with fewer samples than one before in the epoch (such as
        its last), and all that cannot be captured.
        """
        if self.wanted is False or not self._possible(x, y) or len(x) < self.largest:
            return False
        self.largest = len(x)
        if self.held is not None and not self.held.same_modules():
            self._drop()
        elif self.held is not None and self.with_update and not self.held.same_options():
            self.altered += 1
            self.with_update = self.altered < MOST_ALTERED
            self._forget()
        shape = x.shape, x.dtype, y.shape, y.dtype
        if shape not in self.graphs:
            self.seen[shape] = self.seen.get(shape, 0) + 1
            if self.seen[shape] <= WARM_UP or not self._capture(shape, x, y):
                return False
        self.graphs.move_to_end(shape)
        self.graphs[shape].replay(x, y)
        return True

    def _possible(self, x: Any, y: Any) -> bool:
        step = self.step
        on_gpu = backend.device_of(x) == backend.device_of(y) == "cuda"
        return on_gpu and step.accumulate == 1 and pending.thread.watcher is None

    def _capture(self, shape: tuple, x: Any, y: Any) -> bool:
        if self.wanted is None and not all(map(_is_ours, _parts(self.step))):
            self.wanted = False
            return False
        self.held = self.held or _Held(self.step)
        try:
            self.graphs[shape] = _Graph(self.step, x, y, self.with_update)
        except Exception as error:
            for module in _modules(self.step):
                module._pending.clear()  # a forward whose backward was not reached
            self.step.optimizer.zero_grad()
            if self.with_update:
                self.with_update = False
                self._forget()
                return self._capture(shape, x, y)
            if self.wanted:
                raise
            self._give_up(f"{type(error).__name__}: {error}")
            return False
        while len(self.graphs) > MOST_GRAPHS:
            self.graphs.popitem(last=False)
        return True

    def _drop(self) -> None:
        """Forget all graphs: what they hold is no longer what a step would use."""
        self.wasted += any(graph.replays < FEW_REPLAYS for graph in self.graphs.values())
        self._forget()
        self.seen.clear()
        if self.wasted >= MOST_WASTED and not self.wanted:
            self._give_up("a parameter, or an attribute of a module, is assigned anew every few steps")

    def _forget(self) -> None:
        self.graphs.clear()
        self.held = None

    def _give_up(self, why: str) -> None:
        self.wanted = False
        self._forget()
        warnings.warn(
            f"training steps are not captured as a CUDA graph, and take longer on the host: {why}", stacklevel=5
        )


class _Graph:
    """One captured step, and the arrays that it reads its batch from."""

    def __init__(self, step: Step, x: Any, y: Any, with_update: bool):
        self.step, self.x, self.y, self.with_update = step, x.copy(order="K"), y.copy(order="K"), with_update
        self.dials, self.replays = Dials(), 0
        with self.dials.collecting():
            self.captured = Capture(self._work)
        owners = (parameter for group in step.optimizer.param_groups for parameter in group["params"])
        self.gradients = [(parameter, parameter.grad) for parameter in owners]

    def _work(self) -> None:
        self.step.optimizer.zero_grad()
        self.step.gradients(self.x, self.y)
        if self.with_update:
            self.step.update(len(self.x))

    def replay(self, x: Any, y: Any) -> None:
        """Queue the step for another batch."""
        self.x[...] = x
        self.y[...] = y
        self.dials.turn()
        self.captured.launch()
        self.replays += 1
        for parameter, gradient in self.gradients:
            if parameter.grad is not gradient:  # an eager step has been in between
                parameter.grad = gradient
        if not self.with_update:
            self.step.update(len(x))


class Capture:
    """The launches of ``work()``, which are recorded and not run; CuPy holds the graph.

    They are recorded on a stream of their own, as the default stream cannot be captured, and launched on the stream
    that is current then. Memory that the work asks for comes from, and goes back to, a pool that nobody else uses.
    """

    def __init__(self, work: Callable[[], None]):
        import cupy

        cupy.get_default_memory_pool().free_all_blocks()  # what eager steps used goes to the graph
        self.pool = cupy.cuda.MemoryPool()
        stream = cupy.cuda.Stream(non_blocking=True)
        with cupy.cuda.using_allocator(self.pool.malloc), stream:
            stream.begin_capture()
            try:
                work()
            except BaseException:
                with suppress(Exception):  # the capture is broken, which this ends; the error says why
                    stream.end_capture()
                raise
            self.graph = stream.end_capture()

    def launch(self) -> None:
        """Queue all of it on the current stream."""
        self.graph.launch()


class _Held:
    """All that a graph has by address or by value, to see whether it was replaced.

    Compared are identities, some thousand of them: attributes of all modules (arrays, modes, rates), the parameters'
    arrays and flags, the optimiser's options but for the rate, its states, and where the means are added up. And the
    seed.
    """

    def __init__(self, step: Step):
        self.step, self.parts = step, _modules(step)
        self.seed, self.modules, self.options = random.seed(), list(self._modules()), list(self._options())

    def same_modules(self) -> bool:
        """Return whether forward and backward would use what they used."""
        return self.seed == random.seed() and _same(self.modules, list(self._modules()))

    def same_options(self) -> bool:
        """Return whether the update would."""
        return _same(self.options, list(self._options()))

    def _modules(self) -> Iterator[Any]:
        yield backend.get_precision()
        for module in self.parts:
            for value in module.__dict__.values():
                yield value
                if isinstance(value, nn.Parameter):
                    yield from (value.data, value.requires_grad, value.constraint)
        yield from _arrays(self.step.means.sums)

    def _options(self) -> Iterator[Any]:
        for group in self.step.optimizer.param_groups:
            yield from (value for name, value in group.items() if name != "lr")
        for state in self.step.optimizer.state.values():
            yield from _arrays(state)


def _same(before: list[Any], now: list[Any]) -> bool:
    return len(before) == len(now) and all(map(operator.is_, before, now))


def _arrays(values: dict[str, Any]) -> Iterator[Any]:
    return (value for value in values.values() if hasattr(value, "shape"))


def _modules(step: Step) -> list[nn.Module]:
    return [*step.model.modules(), *step.loss.modules()]


def _parts(step: Step) -> Iterator[Any]:
    """Yield whatever runs in a step: classes of modules, their own forwards and backwards, metrics."""
    for module in _modules(step):
        yield type(module)
        yield from (module.__dict__[name] for name in ("forward", "backward") if name in module.__dict__)
    yield type(step.optimizer)
    yield from step.metrics.values()


def _is_ours(part: Any) -> bool:
    return getattr(part, "__module__", "").partition(".")[0] == "nnk"
