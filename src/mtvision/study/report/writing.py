"""A study's report: one HTML file, Markdown with its plots, and tables as CSV."""

from dataclasses import dataclass
from pathlib import Path

from mtvision.report.files import write_tables
from mtvision.report.html import html
from mtvision.report.markdown import markdown
from mtvision.study.report.content import ReportContent
from mtvision.study.report.gallery import write_pictures
from mtvision.study.report.plots import write_plots
from mtvision.study.report.sections import report_sections

__all__ = ["ReportContent", "ReportFiles", "write_report"]


@dataclass(frozen=True)
class ReportFiles:
    """What `write_report` wrote.

    Attributes:
        html: complete in itself.
        markdown: with links to ``plots``.
        tables: CSV, all digits.
        plots: pictures, those of the gallery too.
    """

    html: Path
    markdown: Path
    tables: tuple[Path, ...]
    plots: tuple[Path, ...]


def write_report(folder: Path, content: ReportContent) -> ReportFiles:
    """Write ``report.html``, ``report.md`` with ``plots/``, and ``tables/*.csv``.

    Args:
        folder: is made if it is missing; files of an earlier report are replaced.
        content: of the report.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plots = write_plots(content.findings, folder / "plots")
    pictures = write_pictures(content.gallery, folder / "plots")
    sections = report_sections(content, plots, pictures)
    tables = write_tables(sections, folder / "tables")
    files = ReportFiles(folder / "report.html", folder / "report.md", tables, (*plots.values(), *pictures.values()))
    files.markdown.write_text(markdown(content.title, sections, folder), encoding="utf-8")
    files.html.write_text(html(content.title, sections), encoding="utf-8")
    return files
