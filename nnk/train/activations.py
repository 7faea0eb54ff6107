"""How signals fare on their way through a network: mean, spread, saturation and dead units of every layer's output."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from nnk import backend, nn
from nnk.nn.inspect import untouched
from nnk.nn.pending import no_grad

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["ActivationStats", "LayerStats", "activation_stats"]

BINS = 60
COLUMNS = 6  # panels in a row of the plot
SELU_FLOOR = -1.7580993408473766  # scale * alpha


# Where a layer's function is flat, or so close to its bound that it might as well be.
FLAT: dict[type[nn.Module], Callable[[Any, Any], Any]] = {
    nn.ReLU: lambda module, y: y == 0,
    nn.ReLU6: lambda module, y: (y == 0) | (y == 6),
    nn.Hardsigmoid: lambda module, y: (y == 0) | (y == 1),
    nn.Sigmoid: lambda module, y: (y < 0.01) | (y > 0.99),
    nn.Tanh: lambda module, y: abs(y) > 0.99,
    nn.ELU: lambda module, y: y < -0.99 * module.alpha,
    nn.SELU: lambda module, y: y < 0.99 * SELU_FLOOR,
}


@dataclass(frozen=True)
class LayerStats:
    """One layer's output on a batch.

    `saturated` is the share of outputs where the layer's function is flat: 0 of a ReLU, within 1 % of a bound of
    sigmoid, tanh, ELU and SELU. `dead` is the share of units (channels, axis 1) that are saturated on the whole batch,
    so that nothing in front of them learns. Both are None for other layers. `counts` and `edges` are a histogram of the
    finite outputs.
    """

    name: str
    kind: str
    mean: float
    std: float
    saturated: float | None
    dead: float | None
    counts: np.ndarray = field(repr=False)
    edges: np.ndarray = field(repr=False)


class ActivationStats(Sequence[LayerStats]):
    """The statistics of all layers, in the order of their calls: a sequence of `LayerStats` that prints as a table."""

    def __init__(self, layers: Sequence[LayerStats]):
        self._layers = tuple(layers)

    def __len__(self) -> int:
        return len(self._layers)

    def __getitem__(self, index: int) -> LayerStats:
        return self._layers[index]

    def __repr__(self) -> str:
        rows = [("layer", "kind", "mean", "std", "saturated", "dead")]
        for layer in self:
            shares = ("" if share is None else f"{share:.1%}" for share in (layer.saturated, layer.dead))
            rows.append((layer.name, layer.kind, f"{layer.mean:.4g}", f"{layer.std:.4g}", *shares))
        widths = [max(map(len, column)) for column in zip(*rows)]
        lines = []
        for row in rows:
            words = [cell.ljust(width) for cell, width in zip(row[:2], widths)]
            numbers = [cell.rjust(width) for cell, width in zip(row[2:], widths[2:])]
            lines.append("  ".join([*words, *numbers]).rstrip())
        return "\n".join([lines[0], "-" * (sum(widths) + 2 * len(widths) - 2), *lines[1:]])

    def plot(self) -> Figure:
        """Return a matplotlib figure with a histogram for each layer; ``plot().savefig("activations.png")`` keeps it.

        Raises ModuleNotFoundError without matplotlib.
        """
        from matplotlib.figure import Figure

        rows = -(-len(self) // COLUMNS)
        columns = min(len(self), COLUMNS)
        figure = Figure(figsize=(2.2 * columns, 1.9 * rows), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, layer in zip(panels, self):
            draw(axes, layer, f"{layer.name} {layer.kind}".strip())
        for axes in panels[len(self) :]:
            axes.axis("off")
        return figure


def draw(axes: Any, layer: LayerStats, title: str = "", limits: tuple[float, float] | None = None) -> None:
    """Draw the histogram of a layer into matplotlib axes, its numbers above, between `limits` where given."""
    density = layer.counts / np.diff(layer.edges)
    axes.stairs(density, layer.edges, fill=True, edgecolor="C0", linewidth=1)
    # The bar of a ReLU's zeros would leave all others flat: it may go out at the top.
    highest, second = np.sort(density)[:-3:-1]
    axes.set_ylim(0, 1.5 * second if highest > 3 * second > 0 else 1.1 * max(highest, 1e-30))
    mean = 0 if abs(layer.mean) < layer.std / 50 else layer.mean
    numbers = f"mean {mean:.3g}, std {layer.std:.3g}"
    if layer.saturated is not None:
        numbers += f", flat {layer.saturated:.0%}"
    axes.set_title(f"{title}\n{numbers}".strip(), fontsize=6)
    if limits is not None:
        axes.set_xlim(limits)
    axes.set_yticks([])
    axes.locator_params("x", nbins=4)
    axes.tick_params(labelsize=6)


def activation_stats(
    model: nn.Module, x: Any, kinds: type[nn.Module] | tuple[type[nn.Module], ...] | None = None
) -> ActivationStats:
    """Run `model` on the batch `x` and return the statistics of every layer's output, at its first call.

        print(activation_stats(model, images[:256]))

    Layers are the modules without modules inside, of these `kinds` where given. They run in the modes that they are in;
    running statistics and random numbers stay as they are. What makes histograms look well from the first layer to the
    last is the initialisation's task: see Glorot and Bengio (2010), He et al. (2015), arXiv:1502.01852.

    Raises ValueError when no layer of these kinds is called.
    """
    names = {}
    for name, module in model.named_modules():
        if next(module.children(), None) is None and isinstance(module, kinds or nn.Module):
            names[module] = name
    found: dict[nn.Module, LayerStats] = {}

    def look(module: nn.Module, output: Any) -> None:
        if module in names and module not in found:
            first = output[0] if isinstance(output, tuple) else output
            found[module] = _stats(names[module], module, backend.asarray_on(first, "cpu"))

    with untouched(model), no_grad(), nn.watch(look):
        model(backend.as_array(x))
    if not found:
        raise ValueError(f"model calls no layer of kinds {kinds}")
    return ActivationStats(list(found.values()))


def _stats(name: str, module: nn.Module, y: np.ndarray) -> LayerStats:
    saturated = dead = None
    is_flat = next((rule for kind, rule in FLAT.items() if isinstance(module, kind)), None)
    if is_flat is not None:
        flat = is_flat(module, y)
        saturated = float(flat.mean())
        if y.ndim > 1:
            dead = float(flat.all(axis=(0, *range(2, y.ndim))).mean())
    counts, edges = np.histogram(y[np.isfinite(y)], BINS)
    with np.errstate(all="ignore"):  # what is not finite shows in the numbers
        mean, std = float(y.mean(dtype=np.float64)), float(y.std(dtype=np.float64))
    return LayerStats(name, type(module).__name__, mean, std, saturated, dead, counts, edges)
