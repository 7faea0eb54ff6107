"""Looking into a network from outside: where a number stopped being finite, what layers make."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from nnk import backend, random
from nnk.nn.module import Module
from nnk.nn.pending import no_grad, watch

__all__ = ["first_nonfinite", "summary", "untouched"]


@contextmanager
def untouched(*modules: Module) -> Iterator[None]:
    """Put buffers and random numbers back, after the block, to what they were before."""
    buffers = [(buffer, buffer.copy()) for module in modules for buffer in module.buffers()]
    state = random.get_state()
    try:
        yield
    finally:
        random.set_state(state)
        for buffer, value in buffers:
            buffer[...] = value


def first_nonfinite(model: Module, x: Any) -> tuple[str, Module] | None:
    """Return (name, module) of the first module whose output for `x` holds a NaN or an infinity, else None.

    The name is that of `named_modules`, "" for `model` itself; of a module and one inside it, it is the inner one. The
    forward is run once more with the same modes; running statistics and random numbers stay as they are.
    """
    names = {module: name for name, module in model.named_modules()}
    found: list[Module] = []

    def look(module: Module, output: Any) -> None:
        if found or module not in names:
            return
        for array in output if isinstance(output, tuple) else (output,):
            if not found and not np.isfinite(array).all():
                found.append(module)

    with untouched(model), no_grad(), watch(look), np.errstate(all="ignore"):
        model(x)
    return (names[found[0]], found[0]) if found else None


def summary(model: Module, x: Any) -> str:
    """Return a table of the modules of `model`: name, kind, output shape for the input `x`, number of parameters.

    The last line counts all parameters. Running statistics and random numbers stay as they are.
    """
    shapes: dict[Module, str] = {}

    def look(module: Module, output: Any) -> None:
        first = output[0] if isinstance(output, tuple) else output
        shapes.setdefault(module, str(first.shape))

    with untouched(model), no_grad(), watch(look):
        model(backend.as_array(x))
    rows = [("module", "kind", "output shape", "parameters")]
    for name, module in model.named_modules():
        count = sum(parameter.size for parameter in module.parameters(recurse=False))
        depth = name.count(".") + 1 if name else 0
        label = "  " * depth + name.rpartition(".")[2]
        rows.append((label, type(module).__name__, shapes.get(module, "not called"), f"{count:,}" if count else ""))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row[:3], widths)), row[3].rjust(widths[3])]).rstrip()
        for row in rows
    ]
    rule = "-" * max(map(len, lines))
    trained = sum(parameter.size for parameter in model.parameters() if parameter.requires_grad)
    every = sum(parameter.size for parameter in model.parameters())
    total = f"{every:,} parameters" + ("" if trained == every else f", {trained:,} of them trained")
    return "\n".join([lines[0], rule, *lines[1:], rule, total])
