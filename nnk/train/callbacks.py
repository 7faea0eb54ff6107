"""What happens beside the training itself: checkpoints, history.csv, curves.png."""

from __future__ import annotations

import csv
import io
import time
from typing import TYPE_CHECKING, Any

from nnk.nn.arguments import integer
from nnk.serialization import replacing

from .files import CURVES, HISTORY, write_text

if TYPE_CHECKING:
    from .trainer import Trainer


class Callback:
    """Base of all callbacks: `Trainer.fit` calls these methods.

    Those with a state go first, so that the checkpoint that follows holds it; then the run directory's own, then the
    others, each in the order they were given.

    ``trainer`` gives all there is to know: ``epoch`` and ``batch`` (how many are done), ``epochs`` and
    ``batches`` (how many there will be, None where unknown), ``means`` of this epoch, ``history``, ``model``, ….
    """

    def __repr__(self) -> str:
        """Tell the options that decide what becomes of the state: a run goes on only with the same."""
        return f"{type(self).__name__}()"

    def fit_start(self, trainer: Trainer) -> None:
        """Training is about to begin, or to go on from a checkpoint."""

    def update_end(self, trainer: Trainer) -> None:
        """The weights were updated: after each batch, or group of accumulated ones, that is not yet counted."""

    def batch_end(self, trainer: Trainer, samples: int) -> None:
        """A step over a batch of ``samples`` is done."""

    def epoch_end(self, trainer: Trainer) -> None:
        """An epoch is done, and ``trainer.history[-1]`` is its row."""

    def fit_end(self, trainer: Trainer) -> None:
        """Training is over, however it ended."""

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of this callback: arrays, numbers, strings, in dicts and lists."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned."""


class Checkpoint(Callback):
    """Save a checkpoint after every epoch, every ``steps`` steps of it and every ``seconds`` seconds.

    Raises TypeError or ValueError unless ``steps`` is an int of at least 1.
    """

    def __init__(self, *, steps: int | None = None, seconds: float | None = None):
        self.steps = None if steps is None else integer(steps, "steps", least=1)
        self.seconds = seconds

    def fit_start(self, trainer: Trainer) -> None:
        """Start the clock: the trainer has just saved."""
        self._saved = time.monotonic()

    def batch_end(self, trainer: Trainer, samples: int) -> None:
        """Save if it is time."""
        due = self.steps is not None and trainer.batch % self.steps == 0
        if due or (self.seconds is not None and time.monotonic() - self._saved >= self.seconds):
            self._save(trainer)

    def epoch_end(self, trainer: Trainer) -> None:
        """Save."""
        self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        trainer.save()
        self._saved = time.monotonic()


class HistoryFile(Callback):
    """Keep history.csv: one line per epoch, every number with all its digits."""

    def fit_start(self, trainer: Trainer) -> None:
        """Write what the checkpoint knows: the file may be an epoch ahead of it, or behind."""
        self._write(trainer)

    def epoch_end(self, trainer: Trainer) -> None:
        """Write the file anew, as a whole: a line that is appended may be cut off by a crash."""
        self._write(trainer)

    def _write(self, trainer: Trainer) -> None:
        if not trainer.history:
            return
        text = io.StringIO()
        columns = dict.fromkeys(name for row in trainer.history for name in row)
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(trainer.history)
        write_text(trainer.out / HISTORY, text.getvalue())


class Curves(Callback):
    """Draw curves.png at the end: one panel per quantity over the epochs. Without matplotlib, nothing is drawn."""

    def fit_end(self, trainer: Trainer) -> None:
        """Draw."""
        try:
            from matplotlib.figure import Figure
            from matplotlib.ticker import MaxNLocator
        except ModuleNotFoundError:
            return
        if not trainer.history:
            return
        names = [name for name in trainer.history[0] if name not in ("epoch", "lr") and not name.startswith("val_")]
        panels = [*names, "lr"]
        figure = Figure(figsize=(4.5 * len(panels), 3.5), layout="constrained")
        for axes, name in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels):
            for key, label in ((name, "training"), (f"val_{name}", "validation")):
                points = [(row["epoch"], row[key]) for row in trainer.history if key in row]
                if points:
                    axes.plot(*zip(*points), ".-", label=label)
            if name == "loss" and axes.dataLim.y0 > 0:
                axes.set_yscale("log")
            axes.set(title="learning rate" if name == "lr" else name.replace("_", " "), xlabel="epoch")
            axes.grid(alpha=0.3)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        figure.axes[0].legend()
        with replacing(trainer.out / CURVES) as temporary:
            figure.savefig(temporary, format="png", dpi=120)
