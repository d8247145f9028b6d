"""What a person sees while a run goes: a bar with the losses and the time left, a row an epoch."""

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from mtvision.training.history import Row

T = TypeVar("T")


class Reporter:
    """Writes to a console; the bar only where somebody can see it move.

    Args:
        enabled: False says nothing at all.
        console: standard output if None.
    """

    def __init__(self, enabled: bool = True, console: Console | None = None) -> None:
        self._console = console or Console(quiet=not enabled, highlight=False, soft_wrap=True)
        self._columns: list[str] = []

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator["Bar"]:
        """Show a bar for ``total`` steps as long as the context lasts."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[losses]}"),
        )
        visible = self._console.is_terminal and not self._console.quiet
        with Progress(*columns, console=self._console, transient=True, disable=not visible) as progress:
            task = progress.add_task(title, total=total, losses="")
            yield Bar(progress, task, visible)

    def row(self, row: Row) -> None:
        """Write one epoch's numbers; the names stand above the first row."""
        values = {_title(key): value for key, value in row.items() if _is_shown(key)}
        if list(values) != self._columns:
            self._columns = list(values)
            self._console.print("  ".join(f"{name:>{_width(name)}}" for name in values), style="bold")
        self._console.print("  ".join(f"{_number(name, value):>{_width(name)}}" for name, value in values.items()))

    def say(self, text: str) -> None:
        """Write a line."""
        self._console.print(text)

    def table(self, title: str, rows: Mapping[str, Mapping[str, float]]) -> None:
        """Write a table: a line for each class, a column for each metric; nothing where there is none."""
        names = list(dict.fromkeys(name for values in rows.values() for name in values))
        if not names:
            return
        table = Table("class", *rows, title=title, title_justify="left")
        for name in names:
            table.add_row(name, *(_fraction(values.get(name, math.nan)) for values in rows.values()))
        self._console.print(table)


class Bar:
    """One bar on the screen."""

    def __init__(self, progress: Progress, task: object, visible: bool) -> None:
        self._progress, self._task, self.visible = progress, task, visible

    def over(self, items: Iterable[T]) -> Iterator[T]:
        """Pass the items on, a step each."""
        for item in items:
            yield item
            self._progress.advance(self._task)  # type: ignore[arg-type]

    def losses(self, losses: Mapping[str, float]) -> None:
        """Show losses behind the bar."""
        text = "  ".join(f"{name} {value:.3f}" for name, value in losses.items())
        self._progress.update(self._task, losses=text)  # type: ignore[arg-type]


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
