"""What one run of a GPU bench consists of: its options, its time, its rows, what was left out or failed."""

from __future__ import annotations

import argparse
import contextlib
import shlex
import sys
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import gpu_report
import record
from gpu import Gpu
from gpu_report import GpuRow
from session import chooser


class Session:
    """One run of the bench `name` on a GPU, at most `seconds` long.

        python bench/<name>.py [--only TEXT ...] [--seconds N] [--out FILE]

    Measure inside ``with Session(…) as session``. Whatever is attempted in ``with session.attempt(what)`` may fail
    without ending the run. `failed` and `left_out` are said at the end and in the file; failures make `status` 1.
    """

    def __init__(
        self, name: str, description: str, seconds: float, labels: Iterable[str],
        arguments: Sequence[str] | None = None, gpu: Gpu | None = None,
    ):
        arguments = sys.argv[1:] if arguments is None else list(arguments)
        labels = list(labels)
        parser = argparse.ArgumentParser(prog=f"python bench/{name}.py", description=description)
        add = parser.add_argument
        add("--only", type=chooser(labels), action="extend", metavar="TEXT", help="what has this in its name")
        add("--seconds", type=float, default=seconds, metavar="N", help=f"at most (default: {seconds:g})")
        add("--out", type=Path, default=record.RESULTS / f"{name}.json", metavar="FILE", help="default: bench/results/")
        options = parser.parse_args(arguments)
        self.command = shlex.join(["python", f"bench/{name}.py", *arguments])
        self.name, self.labels, self.out = name, options.only or labels, options.out
        self._end = time.monotonic() + options.seconds
        self.gpu = gpu or Gpu()
        self.rows: list[GpuRow] = []
        self.left_out: dict[str, str] = {}
        self.failed: dict[str, str] = {}

    def __enter__(self) -> Session:
        self.facts, self.limits = self.gpu.facts(), self.gpu.limits()
        print(f"{self.name}: {self.facts['gpu']}; {self.limits}\n{gpu_report.HEADER}", flush=True)
        return self

    @property
    def left(self) -> float:
        """Seconds until this run should end."""
        return self._end - time.monotonic()

    def has_time(self, what: str, seconds: float = 1.0) -> bool:
        """Whether there is time for something that takes so long; else it is noted as left out."""
        if self.left < seconds:
            self.leave_out(what, "no time was left")
            return False
        return True

    def leave_out(self, what: str, why: object) -> None:
        """Note what is not measured."""
        self.left_out[what] = _brief(why)

    @contextlib.contextmanager
    def attempt(self, what: str) -> Iterator[None]:
        """Go on after errors in here, but note them."""
        try:
            yield
        except Exception as error:
            traceback.print_exc()
            self.failed[what] = _brief(f"{type(error).__name__}: {error}")
        finally:
            with contextlib.suppress(Exception):  # after an error on the device everything raises
                self.gpu.free()

    def add(self, row: GpuRow) -> None:
        """Print a row and keep it."""
        print(gpu_report.line(row, self.limits), flush=True)
        self.rows.append(row)

    @property
    def status(self) -> int:
        """What the program returns: 1 where something failed or nothing was measured."""
        return int(bool(self.failed) or not self.rows)

    def __exit__(self, kind: type | None, error: object, trace: object) -> None:
        if kind is not None:
            self.failed["the run"] = _brief(f"{kind.__name__}: {error}")
        outcome = {"left out": self.left_out, "failed": self.failed}
        content = gpu_report.content(self.command, self.facts, self.limits, self.rows, **outcome)
        print("", *gpu_report.extras(content), sep="\n")
        record.write(self.out, content)
        print(f"written to {self.out}", flush=True)


def _brief(why: object) -> str:
    lines = str(why).strip().splitlines()
    return lines[0][:300] if lines else ""
