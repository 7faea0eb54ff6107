"""What one run of a bench consists of: its options, the threads it measures with, its rows, its results."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import record
import report
import roofline
from contest import load_peers
from harness import Budget, Row

import nnk

QUICKER = 8  # a quick run takes this part of the time


class Session:
    """One run of the bench `name`: `minutes` long, on all of `labels` or those that the user chose.

        python bench/<name>.py [--only TEXT ...] [--threads N ...] [--quick] [--out FILE]

    Measure inside ``with Session(…) as session``: `labels` are those to measure and `threads` the numbers of threads,
    `use` sets one of them, `add` prints a row. At the end it prints the summary. A complete run is kept in
    ``bench/results/``.
    """

    def __init__(
        self,
        name: str,
        description: str,
        minutes: float,
        labels: Iterable[str],
        quick_labels: Iterable[str],
        arguments: Sequence[str] | None = None,
    ):
        arguments = sys.argv[1:] if arguments is None else list(arguments)
        self.name, self.rows, self.more = name, [], {}
        labels = list(labels)
        options = _parser(name, description, minutes, labels).parse_args(arguments)
        self.command = shlex.join(["python", f"bench/{name}.py", *arguments])
        self.quick = options.quick
        self.seconds = 60 * minutes / (QUICKER if options.quick else 1)
        self.threads = list(dict.fromkeys(options.threads or [1, os.cpu_count()]))
        self.labels = options.only or (list(quick_labels) if options.quick else labels)
        complete = not (options.quick or options.only or options.threads)
        self.out = options.out or (record.RESULTS / f"{name}.json" if complete else None)
        self.peers = load_peers()
        self._before = nnk.get_num_threads()

    def __enter__(self) -> Session:
        print(f"{self.name}: {record.machine()['cpu']}, about {self.seconds / 60:.1f} min")
        if self.peers is None:
            print("torch is not installed: no peer to compare with")
        self.limits = {}
        for threads in self.threads:
            limits = self.limits[threads] = roofline.measure(threads, samples=2 if self.quick else 7)
            print(f"{threads} threads: {limits}")
        print(report.HEADER)
        return self

    def budget(self, parts: int, share: float = 1.0) -> Budget:
        """The time of this run, or a share of it, for so many measurements."""
        return Budget(share * self.seconds, parts)

    def use(self, threads: int) -> None:
        """Let both libraries use so many threads."""
        nnk.set_num_threads(threads)
        if self.peers is not None:
            self.peers.use_threads(threads)

    def add(self, row: Row) -> None:
        """Print a row and keep it."""
        print(report.line(row, self.limits[row.threads]), flush=True)
        self.rows.append(row)

    def __exit__(self, kind: type | None, error: object, traceback: object) -> None:
        self.use(self._before)
        if kind is not None or not self.rows:
            return
        content = record.record(self.command, self.rows, self.limits, **self.more)
        print("\n" + report.text(report.summary(self.rows)))
        for title, table in report.extras(content):
            print(f"\n{title}\n{report.text(table)}")
        if self.out is not None:
            record.write(self.out, content)
            print(f"\nwritten to {self.out}")


def _parser(name: str, description: str, minutes: float, labels: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python bench/{name}.py", description=f"{description} Takes about {minutes:g} minutes."
    )
    parser.add_argument(
        "--only", type=chooser(labels), action="extend", metavar="TEXT", help="what has this in its name"
    )
    parser.add_argument(
        "--threads", type=_positive, nargs="+", metavar="N", help="numbers of threads (default: one, and all cores)"
    )
    parser.add_argument("--quick", action="store_true", help=f"a few shapes, an {QUICKER}th of the time")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help=f"JSON (default of a complete run: bench/results/{name}.json)"
    )
    return parser


def chooser(labels: Sequence[str]) -> Callable[[str], list[str]]:
    """What makes of a text the labels that have it in their names, for argparse."""

    def chosen(text: str) -> list[str]:
        found = [label for label in labels if text in label]
        if not found:
            raise argparse.ArgumentTypeError(f"{text!r} is in none of: {', '.join(labels)}")
        return found

    return chosen


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)
