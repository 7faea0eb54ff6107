"""What the screen shows while a model trains."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, TextIO

from nnk import backend

from .callbacks import Callback

if TYPE_CHECKING:
    from .trainer import Trainer

INTERVAL = 0.1  # seconds between updates of the bar: more often costs time and is not seen
BAR = "{desc}  {percentage:3.0f}% |{bar}| {rate_noinv_fmt}  {remaining} left"


class Progress(Callback):
    """Print a line after each epoch, and on a terminal a bar below them, with images/s and the time left.

    Also says so when kernels have to be compiled. ``stream`` is where to print; None is standard output.
    """

    def __init__(self, stream: TextIO | None = None):
        self.stream = stream

    def fit_start(self, trainer: Trainer) -> None:
        """Draw the empty bar, and listen for compilations."""
        self._out = self.stream or sys.stdout
        self._bar = self._new_bar(trainer) if self._out.isatty() else None
        self._unseen = 0  # samples that the bar does not know of yet
        self._drawn = 0.0
        self._told = False
        self._compiled = False  # since the last batch
        self._seconds = self._epochs = 0.0  # what is done, and in what time
        self._last = time.perf_counter()
        self._new_epoch()
        backend.kernels("cpu._driver").listeners.append(self._on_compile)

    def batch_end(self, trainer: Trainer, samples: int) -> None:
        """Count, and now and then draw."""
        now, usual = self._lap()
        if usual:
            self._rate_samples += samples
            self._rate_seconds += usual
        self._unseen += samples
        if self._bar is not None and now - self._drawn >= INTERVAL:
            self._draw(trainer)
            self._drawn = now

    def epoch_end(self, trainer: Trainer) -> None:
        """Print the epoch's line."""
        self._lap()
        self._epochs += 1
        row = trainer.history[-1]
        fields = [_epoch(trainer.epoch, trainer.epochs)]
        fields += [_field(name, value) for name, value in row.items() if name not in ("epoch", "lr")]
        if self._rate_seconds:
            fields.append(f"{self._rate_samples / self._rate_seconds:,.0f} images/s")
        if trainer.epoch < trainer.epochs:
            fields.append(f"{_clock(self._seconds / self._epochs * (trainer.epochs - trainer.epoch))} left")
        self._print("   ".join(fields))
        if self._bar is not None:
            self._draw(trainer)
        self._new_epoch()

    def fit_end(self, trainer: Trainer) -> None:
        """Take the bar away."""
        backend.kernels("cpu._driver").listeners.remove(self._on_compile)
        if self._bar is not None:
            self._bar.close()

    def _lap(self) -> tuple[float, float]:
        """Return the time, and the seconds since the last lap: 0 if kernels were compiled, which says nothing."""
        now = time.perf_counter()
        usual = 0.0 if self._compiled else now - self._last
        self._seconds += usual
        self._last, self._compiled = now, False
        return now, usual

    def _new_epoch(self) -> None:
        self._rate_samples, self._rate_seconds = 0, 0.0

    def _new_bar(self, trainer: Trainer):
        from tqdm import tqdm

        class Bar(tqdm):
            monitor_interval = 0  # no thread that watches for bars that stand still

        size = trainer.samples
        return Bar(
            total=None if size is None else size * trainer.epochs,
            initial=0 if size is None else size * trainer.epoch + trainer.means.samples,
            desc=_epoch(trainer.epoch + 1, trainer.epochs),
            bar_format=None if size is None else BAR,
            unit=" images",
            unit_scale=True,
            mininterval=0,  # `batch_end` keeps the interval
            miniters=1,
            dynamic_ncols=True,
            leave=False,
            file=self._out,
        )

    def _draw(self, trainer: Trainer) -> None:
        means = "  ".join(_field(name, value) for name, value in trainer.means.means().items())
        epoch = _epoch(min(trainer.epoch + 1, trainer.epochs), trainer.epochs)
        self._bar.set_description_str(f"{epoch}  {means}" if means else epoch, refresh=False)
        self._bar.update(self._unseen)
        self._unseen = 0

    def _on_compile(self, kernel: str) -> None:
        self._compiled = True
        if not self._told:
            self._told = True
            self._print("compiling kernels for this machine: only the first run has to wait for this")
        if self._bar is not None:
            self._bar.set_description_str(f"compiling {kernel}")

    def _print(self, line: str) -> None:
        if self._bar is not None:
            self._bar.write(line, file=self._out)
        else:
            print(line, file=self._out, flush=True)


def _epoch(number: int, epochs: int) -> str:
    return f"epoch {number:{len(str(epochs))}}/{epochs}"


def _field(name: str, value: float) -> str:
    return f"{name.replace('_', ' ')} {value:.4f}"


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes:02}:{seconds:02}"
