"""All benchmarks whose numbers are compared with peers or limits, one after the other; what ``make bench`` runs.

    python benchmarks/run_all.py [--only NAME ...] [--quick] [--folder runs/bench]

Each runs in a process of its own with its defaults, and writes ``NAME.json`` into the folder; ``table.md`` there has
all tables of the call, each benchmark with its command line, the machine and the versions. ``--quick`` measures less,
to see in some minutes that everything runs: its numbers are not for the docs. Where one fails the others still run,
those that failed are named at the end, and the exit code is 1.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from reporting import Table, markdown

FOLDER = Path(__file__).parent


class Benchmark(NamedTuple):
    """How one is called.

    Attributes:
        quick: further options that make it short.
        threads: value of ``OMP_NUM_THREADS``; None: as many as torch likes.
    """

    quick: str = "--repeats 1"
    threads: int | None = None


BENCHMARKS = {
    "train_step": Benchmark("--repeats 1 --sizes 128x4"),
    "inference": Benchmark("--repeats 2"),
    "data": Benchmark("--repeats 1 --images 64 --workers 0 2 --step-images 32 --epochs 2 --backbone test_resnet"),
    "metrics": Benchmark("--repeats 1 --images 200", threads=1),
    "segmentation_metrics": Benchmark("--repeats 1 --images 200"),
    "import_time": Benchmark("--repeats 2"),
    "trainer_overhead": Benchmark("--repeats 1 --images 32 --epochs 2", threads=1),
    "memory": Benchmark("--repeats 1 --sizes 256x8 --counts 20 50 100 --epochs 6 --images 64"),
    "scaling": Benchmark("--repeats 1"),
}


class Result(NamedTuple):
    """What one benchmark came to; ``content`` is that of its JSON file, None where it failed."""

    name: str
    command: str
    seconds: float
    content: Mapping[str, Any] | None


def main(
    only: Sequence[str] | None = None,
    quick: bool = False,
    folder: Path = Path("runs/bench"),
    scripts: Path = FOLDER,
) -> list[str]:
    """Run benchmarks and write the table; return the names of those that failed."""
    folder.mkdir(parents=True, exist_ok=True)
    results = []
    for name in BENCHMARKS:
        if only is None or name in only:
            results.append(run(name, quick, folder, scripts))
            (folder / "table.md").write_text(page(results, quick), encoding="utf-8")  # a stopped call leaves the others
    return [result.name for result in results if result.content is None]


def run(name: str, quick: bool, folder: Path, scripts: Path) -> Result:
    """Run one benchmark in a process of its own, and read what it wrote."""
    benchmark, output = BENCHMARKS[name], folder / f"{name}.json"
    options = shlex.split(benchmark.quick) if quick else []
    threads = {} if benchmark.threads is None else {"OMP_NUM_THREADS": str(benchmark.threads)}
    shown = " ".join([*(f"{key}={value}" for key, value in threads.items()), f"python benchmarks/{name}.py", *options])
    print(f"\n=== {shown}", flush=True)
    output.unlink(missing_ok=True)  # that of an earlier call is no result of this one
    others = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    began = time.perf_counter()
    command = [sys.executable, str(scripts / f"{name}.py"), *options, "--output", str(output)]
    code = subprocess.run(command, env={**others, **threads}, check=False).returncode
    content = json.loads(output.read_text(encoding="utf-8")) if code == 0 and output.exists() else None
    return Result(name, shown, time.perf_counter() - began, content)


def page(results: Sequence[Result], quick: bool) -> str:
    """Return the tables of all results in Markdown."""
    parts = ["# Benchmarks"]
    if quick:
        parts.append("**Measured with `--quick`: to see that everything runs, not for the docs.**")
    for result in results:
        parts += [f"## {result.name}", f"`{result.command}`, {result.seconds:.0f} s"]
        if result.content is None:
            parts.append("**Failed.**")
            continue
        parts += [markdown(Table(**table)) for table in result.content["tables"]]
        parts.append(_machine(result.content["machine"]))
    return "\n\n".join(parts) + "\n"


def _machine(machine: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    gpu = f", {machine['gpu']}" if machine["gpu"] else ""
    counts = f"{machine['cores']} cores, {machine['threads']} threads"
    return f"{machine['processor']}, {counts}{gpu}, {machine['system']}, Python {machine['python']}; {versions}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(BENCHMARKS), metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--folder", type=Path, default=Path("runs/bench"))
    failed = main(**vars(parser.parse_args()))
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")
