"""What the benchmarks share when they tell what they found: the machine, a table to read and JSON to work with."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import torch

Row = Mapping[str, str | float | None]

_PACKAGES = ("torch", "torchvision", "timm", "albumentations", "opencv-python-headless", "torchmetrics", "numpy")


class Table(NamedTuple):
    """Rows under one title.

    Attributes:
        title: what was measured, on what input.
        rows: each a mapping of column names to a text, a number or None (not measured); the first has all columns.
        notes: sentences below the table.
    """

    title: str
    rows: Sequence[Row]
    notes: Sequence[str] = ()


def machine(*packages: str) -> dict[str, Any]:
    """Return what the numbers depend on beside the code: processor, threads, device and versions of packages."""
    found = {name: _version(name) for name in (*_PACKAGES, *packages)}
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "gpu": device,
        "versions": {name: version for name, version in found.items() if version},
    }


def report(name: str, tables: Sequence[Table], output: Path | None, *packages: str) -> None:
    """Print tables, and write them to a JSON file if one is named.

    Args:
        name: of the benchmark.
        tables: what was found.
        output: the file; its folder is made.
        packages: further ones whose versions matter.
    """
    for table in tables:
        print(f"\n{markdown(table)}")
    if output is not None:
        content = {
            "benchmark": name,
            "machine": machine(*packages),
            "tables": [{"title": table.title, "rows": table.rows, "notes": table.notes} for table in tables],
        }
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(content, indent=1, default=float) + "\n", encoding="utf-8")


def markdown(table: Table) -> str:
    """Return a table in Markdown; numbers have three figures that count."""
    columns = list(table.rows[0])
    rows = [[_text(row.get(column)) for column in columns] for row in table.rows]
    numeric = [not isinstance(table.rows[0][column], str) for column in columns]
    lines = [columns, ["--:" if right else "---" for right in numeric], *rows]
    widths = [max(len(line[index]) for line in lines) for index in range(len(columns))]
    texts = [
        "| "
        + " | ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        )
        + " |"
        for line in lines
    ]
    return "\n".join([f"**{table.title}**", "", *texts, *(f"\n{note}" for note in table.notes)])


def _text(value: str | float | None) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()
