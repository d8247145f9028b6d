"""What a person sees while a run goes: a bar with the losses and the time left, a row an epoch."""

import json
import math
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TypeVar

import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column, Table
from rich.text import Text

from mtvision.training import processes
from mtvision.training.history import Row, without_nan

T = TypeVar("T")


class Reporter:
    """Writes to a console; the bar only where somebody can see it move.

    Args:
        enabled: False says nothing at all.
        console: standard output if None.
        as_json: whether an epoch is a JSON line, and all else is left out: for logs that a program reads.
    """

    def __init__(self, enabled: bool = True, console: Console | None = None, *, as_json: bool = False) -> None:
        self._console = console or Console(quiet=not enabled, highlight=False, soft_wrap=True)
        self._columns: list[str] = []
        self._as_json = as_json

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator["Bar"]:
        """Show a bar for ``total`` steps as long as the context lasts."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=12),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            _Figures(table_column=Column(no_wrap=False)),  # the one that gives way where the terminal is narrow
        )
        visible = self._console.is_terminal and not self._console.quiet and not self._as_json
        with Progress(*columns, console=self._console, transient=True, disable=not visible) as progress:
            task = progress.add_task(title, total=total, figures="")
            yield Bar(progress, task, visible)

    def row(self, row: Row) -> None:
        """Write one epoch's numbers; the names stand above the first row."""
        if self._as_json:
            scalars = {key: value for key, value in row.items() if key != "per_class"}
            self._console.print(json.dumps(without_nan(scalars)), markup=False)
            return
        values = {_title(key): value for key, value in row.items() if _is_shown(key)}
        if list(values) != self._columns:
            self._columns = list(values)
            self._console.print("  ".join(f"{name:>{_width(name)}}" for name in values), style="bold")
        self._console.print("  ".join(f"{_number(name, value):>{_width(name)}}" for name, value in values.items()))

    def say(self, text: str) -> None:
        """Write a line."""
        if not self._as_json:
            self._console.print(text, markup=False)

    def table(self, title: str, rows: Mapping[str, Mapping[str, float]]) -> None:
        """Write a table: a line for each class, a column for each metric; nothing where there is none."""
        names = list(dict.fromkeys(name for values in rows.values() for name in values))
        if not names or self._as_json:
            return
        table = Table("class", *rows, title=title, title_justify="left")
        for name in names:
            table.add_row(name, *(_fraction(values.get(name, math.nan)) for values in rows.values()))
        self._console.print(table)


def chosen_reporter(how: str, progress: bool = True) -> Reporter:
    """Return the reporter that ``system.progress`` means; one that says nothing if not ``progress``.

    Of several processes only the main one says something.
    """
    return Reporter(progress and how != "quiet" and processes.is_main(), as_json=how == "json")


class Bar:
    """One bar on the screen."""

    def __init__(self, progress: Progress, task: object, visible: bool) -> None:
        self._progress, self._task, self.visible = progress, task, visible
        self._since = 0.0

    def advance(self, steps: int = 1) -> None:
        """Move on."""
        self._progress.advance(self._task, steps)  # type: ignore[arg-type]

    def over(self, items: Iterable[T]) -> Iterator[T]:
        """Pass the items on, a step each."""
        for item in items:
            yield item
            self.advance()

    def figures(self, losses: Mapping[str, float], num_images: int) -> None:
        """Show losses, images a second since the last call, and the memory in use, behind the bar.

        The first loss and the rest stand before the other losses, which a narrow terminal cuts off.
        """
        now = time.perf_counter()
        speed = f"{num_images / (now - self._since):.0f} images/s" if self._since else ""
        self._since = now
        total, *parts = (f"{name} {value:.3f}" for name, value in losses.items())
        shown = "  ".join(filter(None, (total, speed, _memory(), *parts)))
        self._progress.update(self._task, figures=shown)  # type: ignore[arg-type]


class _Figures(ProgressColumn):
    """What stands behind the bar, in one line."""

    def render(self, task: Task) -> Text:
        return Text(task.fields["figures"], no_wrap=True, overflow="ellipsis")


def _memory() -> str:
    """Return the greatest memory in use so far: of the CUDA device where there is one, else of the process."""
    if torch.cuda.is_available():
        return f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB on the GPU"
    if find_spec("resource") is None:  # Windows
        return ""
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30:.1f} GiB"


def _is_shown(key: str) -> bool:
    return key != "per_class" and "/loss/" not in key  # of the losses only the totals: the parts are in history.jsonl


def _title(key: str) -> str:
    return key if key.endswith("/loss") else key.removeprefix("val/")


def _width(name: str) -> int:
    return max(len(name), 7)


def _number(name: str, value: float) -> str:
    if name == "epoch":
        return str(int(value))
    if name == "seconds":
        return f"{value:.0f}"
    return f"{value:.2e}" if name == "lr" else _fraction(value)


def _fraction(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"
