"""What the screen shows while a model trains."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, TextIO

from nnk import backend

from .callbacks import Callback

if TYPE_CHECKING:
    from .trainer import Trainer

INTERVAL = 0.1  # seconds between updates of the bar: more often costs time and is not seen
BAR = "{desc}  {percentage:3.0f}% |{bar}| {estimate}"
BAR_WITHOUT_END = "{desc}  {n_fmt} images  {estimate}"


class Progress(Callback):
    """Print a line after each epoch, and on a terminal a bar below them, with images/s and the time left.

    Also says so when kernels have to be compiled, and leaves that time out of its estimates. ``stream`` is where to
    print; None is standard output.
    """

    def __init__(self, stream: TextIO | None = None):
        self.stream = stream

    def fit_start(self, trainer: Trainer) -> None:
        """Draw the empty bar, and listen for compilations."""
        self._told = self._compiled = False  # ever, and since the last lap
        self._seconds, self._from = 0.0, _done(trainer)
        self._last, self._drawn = time.perf_counter(), 0.0
        self._new_epoch()
        self._out = self.stream or sys.stdout
        self._bar = _new_bar(trainer, self._out) if self._out.isatty() else None
        backend.kernels("cpu._driver").listeners.append(self._on_compile)

    def batch_end(self, trainer: Trainer, samples: int) -> None:
        """Count, and now and then draw."""
        seconds = self._lap()
        if seconds:
            self._rate_samples += samples
            self._rate_seconds += seconds
        if self._bar is not None and self._last - self._drawn >= INTERVAL:
            self._draw(trainer)

    def epoch_end(self, trainer: Trainer) -> None:
        """Print the epoch's line."""
        self._lap()
        row = trainer.history[-1]
        fields = [_epoch(trainer.epoch, trainer)]
        fields += [_field(name, value) for name, value in row.items() if name not in ("epoch", "lr")]
        self._print("   ".join([*fields, *self._estimate(trainer)]))
        if self._bar is not None:
            self._draw(trainer)
        self._new_epoch()

    def fit_end(self, trainer: Trainer) -> None:
        """Take the bar away."""
        backend.kernels("cpu._driver").listeners.remove(self._on_compile)
        if self._bar is not None:
            self._bar.close()

    def _lap(self) -> float:
        """Return the seconds since the last lap, 0 if kernels were compiled: those say nothing of what will come."""
        now = time.perf_counter()
        seconds = 0.0 if self._compiled else now - self._last
        self._seconds += seconds
        self._last, self._compiled = now, False
        return seconds

    def _new_epoch(self) -> None:
        self._rate_samples, self._rate_seconds = 0, 0.0

    def _estimate(self, trainer: Trainer) -> list[str]:
        fields = []
        if self._rate_seconds:
            fields.append(f"{self._rate_samples / self._rate_seconds:,.0f} images/s")
        done = _done(trainer)
        if self._from < done < 1:
            fields.append(f"{_clock(self._seconds / (done - self._from) * (1 - done))} left")
        return fields

    def _draw(self, trainer: Trainer) -> None:
        means = [_field(name, value) for name, value in trainer.means.means().items()]
        number = min(trainer.epoch + 1, trainer.epochs)
        self._bar.set_description_str("  ".join([_epoch(number, trainer), *means]), refresh=False)
        self._bar.estimate = "  ".join(self._estimate(trainer))
        self._bar.n = _seen(trainer)
        self._bar.refresh()
        self._drawn = self._last

    def _on_compile(self, kernel: str) -> None:
        self._compiled = True
        if not self._told:
            self._told = True
            self._print("compiling kernels for this machine: only the first run has to wait for this")
        if self._bar is not None:
            self._bar.set_description_str(f"compiling {kernel.strip('_')}")

    def _print(self, line: str) -> None:
        if self._bar is not None:
            self._bar.write(line, file=self._out)
        else:
            print(line, file=self._out, flush=True)


def _new_bar(trainer: Trainer, stream: TextIO) -> Any:
    from tqdm import tqdm

    class Bar(tqdm):
        monitor_interval = 0  # no thread that watches for bars that stand still
        estimate = ""

        @property
        def format_dict(self) -> dict[str, Any]:
            return {**super().format_dict, "estimate": self.estimate}

    return Bar(
        total=None if trainer.samples is None else trainer.samples * trainer.epochs,
        initial=_seen(trainer),
        desc=_epoch(trainer.epoch + 1, trainer),
        bar_format=BAR_WITHOUT_END if trainer.samples is None else BAR,
        dynamic_ncols=True,
        leave=False,
        file=stream,
    )


def _seen(trainer: Trainer) -> int:
    """Count the samples of all epochs so far."""
    return trainer.means.samples + (trainer.samples or 0) * trainer.epoch


def _done(trainer: Trainer) -> float:
    """Return how much of the run is done, from 0 to 1."""
    part = trainer.batch / trainer.batches if trainer.batches else 0
    return (trainer.epoch + part) / trainer.epochs


def _epoch(number: int, trainer: Trainer) -> str:
    return f"epoch {number:{len(str(trainer.epochs))}}/{trainer.epochs}"


def _field(name: str, value: float) -> str:
    return f"{name.replace('_', ' ')} {value:.4f}"


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes:02}:{seconds:02}"
