"""The report of one run: what it gets wrong, in one HTML file with tables and pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtvision.analysis.analysis import Analysis
from mtvision.analysis.run_report_numbers import run_numbers
from mtvision.analysis.run_report_pictures import write_panels, write_run_pictures
from mtvision.analysis.run_report_plots import write_run_plots
from mtvision.analysis.run_report_sections import RunContent, run_sections
from mtvision.config import Config
from mtvision.report.files import write_tables
from mtvision.report.html import html
from mtvision.types import Sample


@dataclass(frozen=True)
class RunReportFiles:
    """What `write_run_report` wrote.

    Attributes:
        html: complete in itself.
        tables: CSV, all digits.
        plots: by name.
        panels: pictures below each other, one file for each of best, worst, and errors of a class.
    """

    html: Path
    tables: tuple[Path, ...]
    plots: Mapping[str, Path]
    panels: tuple[Path, ...]


def write_run_report(
    analysis: Analysis,
    data: Sequence[Sample],
    folder: str | Path,
    *,
    title: str,
    config: Config | None = None,
    history: Sequence[Mapping[str, Any]] | None = None,
    number: int = 6,
) -> RunReportFiles:
    """Write ``report.html``, and what it is made of: ``tables/*.csv``, ``plots``, ``panels`` and ``pictures``.

    Args:
        analysis: of `mtvision.analyze`.
        data: that was scored; pictures are drawn from it.
        folder: is made if it is missing; files of an earlier report are replaced.
        title: of the report.
        config: of the run, shown as it is.
        history: of the training, rows as in ``history.jsonl``.
        number: of best and of worst images, by all tasks together; by each task half as many.

    Raises:
        DataError: if no image is annotated for a task that was looked at, or the data are not those of the analysis.
        ValueError: if ``number`` is below 1.
    """
    target = Path(folder).expanduser()
    target.mkdir(parents=True, exist_ok=True)
    pictures = write_run_pictures(analysis, data, target, number)
    plots = write_run_plots(analysis, target / "plots", history)
    sections = run_sections(RunContent(analysis, run_numbers(analysis), plots, pictures, config))
    tables = write_tables(sections, target / "tables")
    panels = write_panels(pictures, target / "panels")
    page = target / "report.html"
    page.write_text(html(title, sections), encoding="utf-8")
    return RunReportFiles(page, tables, plots, panels)
