"""What CUDA kernels take of a multiprocessor: `kernels/cuda/resources.txt`, a line a kernel, dtype and architecture.

    python -m nnk.kernels.cuda._resources                    # compile everything, show what differs from the table
    python -m nnk.kernels.cuda._resources --write            # and write the table anew
    python -m nnk.kernels.cuda._resources activation softmax # just these files: all their lines

No GPU is needed: kernels are compiled and assembled as they would be for one, nvJitLink reports registers and spills,
nvdisasm (`pip install nvidia-cuda-nvdisasm`) shows the instructions. All kernels of a dtype and an architecture are
assembled together, which saves starting both programs a thousand times.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import pkgutil
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from importlib import import_module, metadata
from pathlib import Path

from . import _link, launch

TABLE = Path(__file__).with_name("resources.txt")
_PACKAGE = __spec__.parent
ARCHITECTURES = {dtype: ((7, 5), (8, 0), (9, 0)) for dtype in ("float32", "float16")} | {"bfloat16": ((8, 0), (9, 0))}
SHOWN = ("LDG.128", "STG.128", "LDGSTS", "UTMALDG", "UTMASTG", "LDSM", "HMMA", "HGMMA", "BAR", "SHFL", "ATOM", "ATOMG",
         "RED", "REDG", "F64")  # fmt: skip
MADE_BY = ("numba", "numba-cuda", "nvidia-nvvm", "nvidia-nvjitlink", "nvidia-cuda-nvdisasm")
HEADING = "# Made by `python -m nnk.kernels.cuda._resources --write` with "


@dataclass
class Line:
    """One kernel on one architecture; `counts` are instructions, None where nvdisasm is missing."""

    registers: int
    stack: int
    spilled: int
    shared: int
    counts: Counter | None = field(default_factory=Counter)

    def __str__(self) -> str:
        counted = [f"{name}={self.counts[name]}" for name in SHOWN if self.counts[name]] if self.counts else []
        fixed = f"{self.registers} registers, {self.shared} bytes shared, {self.spilled} bytes spilled"
        return f"{fixed}{', ' * bool(counted)}{' '.join(counted)}" + f", {self.stack} bytes stack" * bool(self.stack)


def versions() -> str:
    """What decides about the machine code, with versions."""
    python = ".".join(map(str, sys.version_info[:2]))
    return ", ".join([f"python {python}", *_link.installed(*MADE_BY)])


def declared(files: tuple[str, ...] = ()) -> list[launch.Kernel]:
    """The kernels of the package, or of some of its files, sorted by name."""
    for module in pkgutil.iter_modules([str(TABLE.parent)]):
        import_module(f"{_PACKAGE}.{module.name}")
    inside = [k for k in launch.KERNELS if k.function.__module__.startswith(f"{_PACKAGE}.")]
    return sorted((k for k in inside if not files or k.file in files), key=lambda k: (k.file, k.name))


def builds(kernel: launch.Kernel) -> list[tuple[str, tuple]]:
    """The dtypes and architectures in which a kernel is checked.

    float16 differs from bfloat16 by a conversion alone where no tensor cores are used, and stands aside there: those
    kernels come in all dtypes, for every card.
    """
    if kernel.arch:
        return [(dtype, (9, 0, "a")) for dtype in kernel.dtypes]
    plain = len(kernel.dtypes) == len(ARCHITECTURES) and kernel.least == launch.OLDEST
    return [
        (dtype, capability)
        for dtype in kernel.dtypes
        if not (plain and dtype == "float16")
        for capability in ARCHITECTURES[dtype]
        if capability >= kernel.least
    ]


def measured(files: tuple[str, ...] = ()) -> dict[str, Line]:
    """Compile the kernels of these files, or all: lines by "file.kernel dtype architecture"."""
    context = multiprocessing.get_context("spawn")
    # Compiling makes many objects and few cycles: looking for them less often saves a sixth of the time.
    with ProcessPoolExecutor(os.cpu_count(), context, initializer=gc.set_threshold, initargs=(50_000, 20, 50)) as pool:
        groups: dict[tuple, dict[str, str]] = {}
        kernels = declared(files)
        for kernel, compiled in zip(kernels, pool.map(_compiled, [(k.file, k.name) for k in kernels], chunksize=2)):
            for build, ptx in compiled.items():
                groups.setdefault(build, {})[f"{kernel.file}.{kernel.name}"] = ptx
        found = {}
        for (dtype, capability), lines in zip(groups, pool.map(_assembled, groups, groups.values())):
            found |= {f"{name} {dtype} {_link.arch(capability)}": line for name, line in lines.items()}
    for kernel in kernels:
        for dtype, capability in builds(kernel):
            found[f"{kernel.file}.{kernel.name} {dtype} {_link.arch(capability)}"].shared += kernel.shared
    return dict(sorted(found.items()))


def _compiled(which: tuple[str, str]) -> dict[tuple, str]:
    """The PTX of one kernel, by dtype and architecture; runs in a process of its own."""
    (kernel,) = (k for k in declared((which[0],)) if k.name == which[1])
    return {build: kernel.ptx(*build) for build in builds(kernel)}


def _assembled(build: tuple, texts: dict[str, str]) -> dict[str, Line]:
    """What the assembler and the disassembler say of all kernels of a dtype and an architecture."""
    code, log = _link.link(list(texts.values()), build[1])
    remarks = re.findall(r"\(C75\d\d\).*", log)
    if remarks:  # products of warpgroups that wait for each other, or an instruction that is ignored
        raise RuntimeError("the assembler makes the code slow:\n" + "\n".join(remarks))
    counts = instructions(code)
    lines = {}
    for entry, report in re.findall(r"Compiling entry function '(\w+)'(.*?)Compile time", log, re.DOTALL):
        spills = re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", report)
        stack, stores, loads = map(int, spills.groups())
        used = re.search(rf"Function properties for '{entry}':\s+info +: used (\d+) registers.*?(\d+) bytes smem", log)
        registers, shared = map(int, used.groups())
        lines[entry] = Line(registers, stack, stores + loads, shared, counts[entry] if counts else None)
    return {name: lines[name.replace(".", "_", 1)] for name in texts}


def nvdisasm() -> str | None:
    """The disassembler, of pip or of an installed toolkit."""
    try:
        files = metadata.files("nvidia-cuda-nvdisasm") or ()
    except metadata.PackageNotFoundError:
        files = ()
    return next((str(file.locate()) for file in files if file.name == "nvdisasm"), shutil.which("nvdisasm"))


def instructions(code: bytes) -> dict[str, Counter] | None:
    """How often each kernel has each instruction, by its short name; None where nvdisasm is missing."""
    program = nvdisasm()
    if program is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernels.cubin"
        path.write_bytes(code)
        text = subprocess.run([program, "-c", path], capture_output=True, text=True, check=True).stdout
    counts = {}
    for section in re.split(r"(?m)^\.text\.", text)[1:]:
        name, _, body = section.partition(":")
        found = re.findall(r"/\*[0-9a-f]{4,6}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)", body)
        counts[name] = Counter(map(_short, found))
    return counts


def _short(instruction: str) -> str:
    """LDG.E.128.SYS counts as LDG.128; double precision under one name, whatever it does."""
    name, *suffixes = instruction.split(".")
    if "F64" in suffixes or re.fullmatch(r"D(ADD|MUL|FMA|SETP|MNMX|MMA)", name):
        return "F64"
    return f"{name}.128" if "128" in suffixes and name in ("LDG", "STG") else name


def table() -> tuple[str, dict[str, str]]:
    """The committed table: what made it, and its lines."""
    heading, *lines = TABLE.read_text().splitlines()
    return heading.removeprefix(HEADING), dict(line.split(": ", 1) for line in lines)


def main() -> None:
    """Show or write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", metavar="FILE", help="files of kernels/cuda without .py; all by default")
    parser.add_argument("--write", action="store_true", help="write the lines into the table")
    options = parser.parse_args()
    files = tuple(options.files)
    now = {name: str(line) for name, line in measured(files).items()}
    made_by, before = table() if TABLE.exists() else ("", {})
    others = {name: line for name, line in before.items() if files and name.split(".")[0] not in files}
    for name, line in now.items():
        if files or before.get(name) != line:
            print(f"{name}: {line}", f"(was {before[name]})" if before.get(name, line) != line else "")
    for name in before.keys() - others.keys() - now.keys():
        print(f"{name} is gone")
    if options.write:
        if others and made_by != versions():
            raise SystemExit(f"the table was made by {made_by}, here are {versions()}: write all of it")
        lines = (f"{name}: {line}" for name, line in sorted((others | now).items()))
        TABLE.write_text("\n".join([HEADING + versions(), *lines, ""]))


if __name__ == "__main__":
    main()
