"""A bar on the terminal for a long walk over a data set."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_WORTH_A_BAR = 500  # items; fewer are done before somebody has read the title


@contextmanager
def progress_bar(title: str, total: int, show: bool | None) -> Iterator[Callable[[], None]]:
    """Yield a function to call after each item, which moves a bar on the standard error output.

    Args:
        title: stands before the bar.
        total: number of items.
        show: None: for many items; there is a bar only on a terminal.
    """
    if not sys.stderr.isatty() or show is False or (show is None and total < _WORTH_A_BAR):
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, total=total)
        yield lambda: progress.advance(task)
