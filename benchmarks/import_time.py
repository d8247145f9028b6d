"""What it takes to start: seconds of imports, of building a model, and of the command line, in fresh processes.

    python benchmarks/import_time.py [--repeats 9] [--backbone resnet18] [--output FILE]

Each program runs in a new interpreter; they take turns, after one turn that fills the caches of the file system.
Medians are told, in CPU seconds of the process and its threads and in seconds of the clock, both with the start of the
interpreter, which is a row too. What mtvision adds to torch is told twice: as the difference of two such processes,
whose ends count too, and as a process that has torch sees it, which is less noise. ``import mtvision`` loads parts when
they are asked for, so a first config is told too: it loads pydantic and the roles of the parts that it names.

The last table says where the time of that config goes once torch is there, by the package that brings it: from
``python -X importtime`` (which takes time itself), each module's own time, without what it imports in turn.
"""

import argparse
import importlib.util
import os
import resource
import statistics
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from common import Seconds, medians
from reporting import Row, Table, report

BARE, TORCH, OURS, CONFIG = "python", "import torch", "import mtvision", "a first config"
PEERS = ("torchvision", "timm", "segmentation_models_pytorch")
WANTED = 0.2
"""Seconds above ``import torch``."""
TOP = 10
_MARK = "import time:"
_MAKE_CONFIG = (
    "mtv.Config(model={'segmentation_head': 'unet'}, training={'seg_loss': 'focal', 'balancer': 'uncertainty'})"
)
_FIRST_CONFIG = f"import torch, mtvision as mtv; {_MAKE_CONFIG}"
_INSIDE = f"""import time, torch
used, began = time.process_time(), time.perf_counter()
import mtvision as mtv
print(time.process_time() - used, time.perf_counter() - began)
{_MAKE_CONFIG}
print(time.process_time() - used, time.perf_counter() - began)"""


class Module(NamedTuple):
    """A line of ``-X importtime``.

    Attributes:
        name: of the module.
        microseconds: its own, without those of what it imports.
        importer: the closest module of mtvision around it, "" where there is none.
    """

    name: str
    microseconds: int
    importer: str


def main(repeats: int = 9, backbone: str = "resnet18", output: Path | None = None) -> list[Table]:
    """Print and return tables: of programs, of what a process sees that has torch, of packages."""
    programs, missing = programs_of(backbone)
    rows = rows_of(measured_processes(programs, repeats))
    above = {row["program"]: row["s above torch (wall)"] for row in rows}[OURS]
    inside = inside_rows([seconds_inside() for _ in range(repeats)])
    notes = [
        f"Wanted: '{OURS}' at most {WANTED} s above '{TORCH}'; found {above:.3f} s as the difference of processes, "
        f"{inside[0]['wall s']:.3f} s within a process that has torch."
    ]
    notes += [f"left out: {name} is not installed (pip install -r benchmarks/requirements.txt)" for name in missing]
    traces = [trace() for _ in range(min(repeats, 3))]
    packages = package_rows(traces)
    brought = sum(float(row["ms"]) for row in packages)
    title = f"What {CONFIG} brings beside torch, the {TOP} most expensive packages, median of {len(traces)}"
    tables = [
        Table(f"Fresh processes, median of {repeats}", rows, notes),
        Table(f"Within a process that has torch, median of {repeats}", inside),
        Table(title, packages[:TOP], [f"All {len(packages)} packages: {brought:.0f} ms."]),
    ]
    report("import_time", tables, output, "segmentation-models-pytorch")
    return tables


def programs_of(backbone: str) -> tuple[dict[str, list[str]], list[str]]:
    """Return the arguments of the interpreter for each program, and the names of packages that are not installed."""
    missing = [name for name in PEERS if importlib.util.find_spec(name) is None]
    statements = {BARE: "pass", TORCH: "import torch", OURS: "import mtvision", CONFIG: _FIRST_CONFIG}
    statements |= {f"import {name}": f"import {name}" for name in PEERS if name not in missing}
    statements[f"build_model, {backbone}"] = f"import mtvision as mtv; mtv.build_model({{'backbone': {backbone!r}}})"
    programs = {name: ["-c", statement] for name, statement in statements.items()}
    return {**programs, "mtvision --help": ["-c", "from mtvision.cli import app; app()", "--help"]}, missing


def measured_processes(programs: Mapping[str, Sequence[str]], repeats: int) -> dict[str, list[Seconds]]:
    """Return the seconds of each program in each turn, after one turn that is not counted."""
    turns = [{name: run(program) for name, program in programs.items()} for _ in range(repeats + 1)]
    return {name: [turn[name] for turn in turns[1:]] for name in programs}


def run(program: Sequence[str]) -> Seconds:
    """Return what a new interpreter takes; leave where it fails."""
    used, began = _used_by_children(), time.perf_counter()
    new_interpreter(program)
    return Seconds(_used_by_children() - used, time.perf_counter() - began)


def seconds_inside() -> dict[str, Seconds]:
    """Return what ``import mtvision``, and it with the first config, take in a new process that has imported torch."""
    lines = new_interpreter(["-c", _INSIDE]).stdout.splitlines()
    return {name: Seconds(*map(float, line.split())) for name, line in zip((OURS, CONFIG), lines, strict=True)}


def inside_rows(turns: Sequence[Mapping[str, Seconds]]) -> list[dict[str, Any]]:
    """Return a row for each statement, with the medians of its turns."""
    found = {name: medians(turn[name] for turn in turns) for name in turns[0]}
    return [{"program": name, "CPU s": each.cpu, "wall s": each.wall} for name, each in found.items()]


def new_interpreter(program: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    """Run a program in an interpreter that keeps compiled modules, as what pip installs is; leave where it fails."""
    variables = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run([sys.executable, *program], env=variables, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"python {' '.join(program)}: exit code {done.returncode}\n{done.stderr}")
    return done


def rows_of(seconds: Mapping[str, Sequence[Seconds]]) -> list[Row]:
    """Return medians, and the median of the differences to ``import torch`` in the same turn."""
    rows: list[Row] = []
    for name, turns in seconds.items():
        above = [
            (each.cpu - torch.cpu, each.wall - torch.wall) for each, torch in zip(turns, seconds[TORCH], strict=True)
        ]
        cpu, wall = map(statistics.median, zip(*turns, strict=True))
        cpu_above, wall_above = map(statistics.median, zip(*above, strict=True))
        rows.append(
            {
                "program": name,
                "CPU s": cpu,
                "wall s": wall,
                "s above torch (CPU)": cpu_above,
                "s above torch (wall)": wall_above,
            }
        )
    return rows


def trace() -> list[Module]:
    """Return the modules that the first config brings after ``import torch``."""
    return brought_after("torch", new_interpreter(["-X", "importtime", "-c", _FIRST_CONFIG]).stderr)


def brought_after(package: str, text: str) -> list[Module]:
    """Return the modules that ``-X importtime`` writes after a package.

    A module is written after those that it imports, two blanks further out: read from the end, the last line further
    out is its importer. What is imported by a function, as mtvision's parts are, has none.
    """
    modules: list[Module] = []
    path: list[str] = []
    for line in reversed([line for line in text.splitlines() if line.startswith(_MARK)]):
        own, _, name = line.removeprefix(_MARK).split("|")
        if not own.strip().isdigit():
            continue  # the heading
        depth = (len(name) - len(name.lstrip()) - 1) // 2
        path = [*path[:depth], name.strip()]
        if path == [package]:
            break
        importer = next((each for each in reversed(path[:-1]) if each.partition(".")[0] == "mtvision"), "")
        modules.append(Module(name.strip(), int(own), importer))
    return modules


def package_rows(traces: Sequence[Sequence[Module]]) -> list[dict[str, str | float]]:
    """Return a row for each package, the most expensive first."""
    milliseconds: dict[str, list[float]] = defaultdict(lambda: [0.0] * len(traces))
    importers: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    counts: Counter[str] = Counter(module.name.partition(".")[0] for module in traces[0])
    for index, modules in enumerate(traces):
        for module in modules:
            package = module.name.partition(".")[0]
            milliseconds[package][index] += module.microseconds / 1000
            importers[package][module.importer] += module.microseconds
    rows: list[dict[str, str | float]] = [
        {
            "package": package,
            "ms": statistics.median(each),
            "modules": counts[package],
            "brought by": max(importers[package], key=importers[package].__getitem__),
        }
        for package, each in milliseconds.items()
    ]
    return sorted(rows, key=lambda row: -float(row["ms"]))


def _used_by_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the tables here too, as JSON")
    main(**vars(parser.parse_args()))
