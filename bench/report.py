"""Tables and the plot of what the benches have measured.

    python bench/report.py              the tables of all complete runs
    python bench/report.py --write      the same into README.md, bench/results/tables.md and bench/results/ratios.png

A ratio is our time over PyTorch's at the better of its two memory formats: below 1 we are faster.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import record
from harness import Row
from roofline import Roofline
from targets import TARGETS, Verdict, judge

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- bench -->\n", "<!-- /bench -->\n"

Table = list[list[str]]

# ---------------------------------------------------------------- rows as they come
HEADER = (
    f"{'class':26}{'function':32}{'shape':32}{'threads':>7}{'ms':>10}{'±':>5}{'GB/s':>7}{'GFLOP/s':>9}{'roof':>6}"
    f"{'ratio':>7}"
)


def line(row: Row, limits: Roofline) -> str:
    """One row. `±` is half the spread of the samples, `roof` the share of what bandwidth and FMA peak allow (direct
    convolutions' FLOPs, of which Winograd's algorithm needs a part), `ratio` our time over the peer's best.
    """
    ours = row.ours
    spread = (ours.p80 - ours.p20) / ours.median / 2
    text = f"{row.group:26}{row.name:32}{row.shape:32}{row.threads:7}{1e3 * ours.median:10.3f}{spread:5.0%}"
    if row.bytes or row.flops:
        text += f"{row.bytes / ours.median / 1e9:7.1f}{row.flops / ours.median / 1e9:9.1f}{row.share(limits):6.0%}"
    else:
        text += " " * 22
    for library in libraries([row]):
        best = row.best(library)
        text += f"{row.ratio(library):7.2f} {best}, {1e3 * row.peers[best].median:.3f} ms"
    return text


# ---------------------------------------------------------------- tables
def libraries(rows: Iterable[Row]) -> list[str]:
    """The peers' libraries, PyTorch first."""
    found = {name.split()[0] for row in rows for name in row.peers}
    return sorted(found, key=lambda name: (name != "torch", name))


def summary(rows: Sequence[Row]) -> Table:
    """Every function against its class's target, by number of threads."""
    table = [["class", "function", "against", "threads", "shapes", "mean", "target", "worst", "at most", "", "at"]]
    for library in libraries(rows):
        for v in judge(rows, library):
            target = v.target if library == "torch" else None
            table.append([
                v.group, v.name, library, str(v.threads), str(v.count), f"{v.mean:.2f}",
                f"{target.mean:.2f}" if target else "", f"{v.worst:.2f}", f"{target.worst:.2f}" if target else "",
                ("pass" if v.passed else "miss") if target else "", v.worst_shape,
            ])
    return table


def overview(rows: Sequence[Row]) -> Table:
    """One line per class: the geometric mean of its functions' means, and the worst shape in brackets."""
    verdicts = [v for v in judge(rows) if v.target]
    threads = sorted({v.threads for v in verdicts})
    table = [["", "target (worst)", *(f"{n} thread{'s' * (n > 1)}" for n in threads), ""]]
    for group, target in TARGETS.items():
        here = [v for v in verdicts if v.group == group]
        if here:
            cells = [_cell([v for v in here if v.threads == n]) for n in threads]
            passed = "✓" if all(v.passed for v in here) else ""
            table.append([group, f"{target.mean:.2f} ({target.worst:.2f})", *cells, passed])
    return table


def _cell(verdicts: Sequence[Verdict]) -> str:
    if not verdicts:
        return ""
    weights = [v.count for v in verdicts]
    mean = np.exp(np.average([np.log(v.mean) for v in verdicts], weights=weights))
    return f"{mean:.2f} ({max(v.worst for v in verdicts):.2f})"


def details(rows: Sequence[Row]) -> Table:
    """Every ratio: a line per function and shape, a column per number of threads and library."""
    columns = [(threads, library) for threads in sorted({row.threads for row in rows}) for library in libraries(rows)]
    table = [["class", "function", "shape", *(f"{library}, {threads} threads" for threads, library in columns)]]
    cells: dict[tuple, dict[tuple, str]] = {}
    for row in rows:
        found = cells.setdefault((row.group, row.name, row.shape), {})
        found |= {(row.threads, library): f"{row.ratio(library):.2f}" for library in libraries([row])}
    return table + [[*key, *(found.get(column, "") for column in columns)] for key, found in cells.items()]


def extras(content: Mapping[str, Any]) -> list[tuple[str, Table]]:
    """Tables of what a record holds besides rows."""
    memory = content.get("peak_memory")
    if not memory:
        return []
    names = list(dict.fromkeys(library for entry in memory for library in entry["bytes"]))
    table = [["peak resident memory, MB", *names]]
    for entry in memory:
        sizes = (entry["bytes"].get(name) for name in names)
        table.append([entry["shape"], *("" if size is None else f"{size / 1e6:.0f}" for size in sizes)])
    return [("Each library alone in a process:", table)]


def text(table: Table) -> str:
    """A table in columns."""
    widths = [max(map(len, column)) for column in zip(*table)]
    return "\n".join("  ".join(f"{cell:<{w}}" for cell, w in zip(cells, widths)).rstrip() for cells in table)


def markdown(table: Table) -> str:
    """A table in Markdown."""
    lines = [f"| {' | '.join(cells)} |" for cells in table]
    return "\n".join([lines[0], "|---" * len(table[0]) + "|", *lines[1:]])


# ---------------------------------------------------------------- the plot
def plot(rows: Sequence[Row], path: Path) -> None:
    """Every ratio as a dot, a line per class, its target as a mark."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    threads = sorted({row.threads for row in rows})
    groups = [group for group in TARGETS if any(row.group == group for row in rows)]
    figure, axes = plt.subplots(figsize=(9, 1 + 0.45 * len(groups)), layout="constrained")
    for i, n in enumerate(threads):
        points = [(row.ratio(), groups.index(row.group)) for row in rows
                  if row.threads == n and row.group in groups and row.peers]
        shift = (i - (len(threads) - 1) / 2) * 0.3
        axes.scatter([x for x, _ in points], [y + shift for _, y in points], s=12, alpha=0.6, linewidths=0,
                     label=f"{n} thread{'s' * (n > 1)}")
    means = [TARGETS[group].mean for group in groups]
    axes.scatter(means, range(len(groups)), marker="|", s=260, color="black", label="target of the mean")
    axes.axvline(1, color="grey", linewidth=0.8)
    axes.set(xscale="log", yticks=range(len(groups)), yticklabels=groups, xlabel="our time / PyTorch's")
    ticks = [0.05, 0.1, 0.2, 0.5, 1, 2]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.invert_yaxis()
    figure.legend(loc="outside upper center", ncols=len(threads) + 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)


# ---------------------------------------------------------------- the command
def load(folder: Path) -> dict[str, dict[str, Any]]:
    """The complete runs in a folder, by the name of their bench."""
    contents = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("cpu_*.json"))}
    return {name: content for name, content in contents.items() if "rows" in content}


def full(runs: Mapping[str, Mapping[str, Any]]) -> str:
    """All tables in Markdown."""
    parts = ["# Results", __doc__.rpartition("\n\n")[2].strip()]
    for name, content in runs.items():
        rows = record.rows_of(content)
        parts += [f"## {name}", _origin(content), markdown(summary(rows)), markdown(details(rows))]
        parts += [f"{title}\n\n{markdown(table)}" for title, table in extras(content)]
    return "\n\n".join(parts) + "\n"


def for_readme(runs: Mapping[str, Mapping[str, Any]]) -> str:
    """The overview of all runs, and where it comes from."""
    rows = [row for content in runs.values() for row in record.rows_of(content)]
    latest = max(runs.values(), key=lambda content: content["date"])
    commands = ", ".join(f"`{content['command']}`" for content in runs.values())
    return "\n\n".join([
        "Our time over PyTorch's at the better of its two memory formats, lower is better: geometric means, the worst "
        "shape in brackets.",
        markdown(overview(rows)),
        f"{_origin(latest)} From {commands}; `python bench/report.py --write` makes this table and "
        "[all ratios](bench/results/tables.md).",
        "![Every ratio](bench/results/ratios.png)",
    ]) + "\n"


def _origin(content: Mapping[str, Any]) -> str:
    versions = content["versions"]
    named = ", ".join(f"{package} {versions[package]}" for package in ("torch", "jax", "numba") if package in versions)
    return f"{content['machine']['cpu']}, {content['machine']['cores']} cores, {content['date'][:10]}, {named}."


def between_marks(page: str, content: str) -> str:
    """The page with `content` between its two marks; raise ValueError where they are missing."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the page lacks {BEGIN.strip()} and {END.strip()}, between which the table goes")
    return f"{before}{begin}{content}{end}{after}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables of complete runs, or write them where readers look."""
    parser = argparse.ArgumentParser(prog="python bench/report.py", description="Tables of all complete runs.")
    parser.add_argument("--results", type=Path, default=record.RESULTS, metavar="DIR", help="default: bench/results")
    parser.add_argument("--write", action="store_true", help="into README.md, tables.md and ratios.png")
    options = parser.parse_args(arguments)
    runs = load(options.results)
    if not runs:
        parser.error(f"{options.results} holds no run: python -m bench makes some")
    for name, content in runs.items():
        rows = record.rows_of(content)
        print(f"{name}: {_origin(content)}\n{text(summary(rows))}\n")
    rows = [row for content in runs.values() for row in record.rows_of(content)]
    print(text(overview(rows)))
    if options.write:
        readme = ROOT / "README.md"
        page = between_marks(readme.read_text(encoding="utf-8"), for_readme(runs))
        readme.write_text(page, encoding="utf-8")
        (options.results / "tables.md").write_text(full(runs), encoding="utf-8")
        plot(rows, options.results / "ratios.png")


if __name__ == "__main__":
    main()
