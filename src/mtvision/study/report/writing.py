"""A study's report: one HTML file, Markdown with its plots, and tables as CSV."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mtvision.study.report.blocks import Section, Table
from mtvision.study.report.content import ReportContent
from mtvision.study.report.gallery import Gallery
from mtvision.study.report.html import html
from mtvision.study.report.markdown import markdown
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
    pictures = _write_pictures(content.gallery, folder / "plots")
    sections = report_sections(content, plots, pictures)
    tables = _write_tables(sections, folder / "tables")
    files = ReportFiles(folder / "report.html", folder / "report.md", tables, (*plots.values(), *pictures.values()))
    files.markdown.write_text(markdown(content.title, sections, folder), encoding="utf-8")
    files.html.write_text(html(content.title, sections), encoding="utf-8")
    return files


def _write_pictures(gallery: Gallery | None, folder: Path) -> dict[str, Path]:
    """Write the pictures of a gallery, and return the files by image id."""
    if gallery is None:
        return {}
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for name, images in (("best", gallery.best), ("worst", gallery.worst)):
        for number, image in enumerate(images, start=1):
            path = folder / f"{name}_{number}.jpg"
            path.write_bytes(image.picture)
            found[image.image_id] = path
    return found


def _write_tables(sections: Iterable[Section], folder: Path) -> tuple[Path, ...]:
    folder.mkdir(parents=True, exist_ok=True)
    tables = [block for section in sections for block in section.blocks if isinstance(block, Table)]
    paths: list[Path] = []
    for table in tables:
        path = _free(folder, re.sub(r"[^A-Za-z0-9._-]+", "_", table.name).strip("."), paths)
        table.frame.to_csv(path, index=False)
        paths.append(path)
    return tuple(paths)


def _free(folder: Path, name: str, taken: list[Path]) -> Path:
    """Return a file that no other table has, also where names differ only in what a file's name cannot hold."""
    used = {path.name.lower() for path in taken}
    names = (f"{name}{'' if number == 1 else f'_{number}'}.csv" for number in range(1, len(taken) + 2))
    return folder / next(each for each in names if each.lower() not in used)
