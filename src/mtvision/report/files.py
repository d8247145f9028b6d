"""The tables of a report as files."""

import re
from collections.abc import Collection, Iterable
from pathlib import Path

from mtvision.report.blocks import Section, Table


def write_tables(sections: Iterable[Section], folder: Path) -> tuple[Path, ...]:
    """Write each table of some sections as a CSV with all digits, and return the files in the tables' order.

    Args:
        sections: of a report.
        folder: is made if it is missing; files of the same names are replaced.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tables = [block for section in sections for block in section.blocks if isinstance(block, Table)]
    paths: list[Path] = []
    for table in tables:
        path = free_path(folder, table.name, ".csv", paths)
        table.stored.to_csv(path, index=False)
        paths.append(path)
    return tuple(paths)


def free_path(folder: Path, name: str, suffix: str, taken: Collection[Path]) -> Path:
    """Return a file that no other has, also where names differ only in what a file's name cannot hold.

    Args:
        folder: for the file.
        name: any text.
        suffix: with its dot.
        taken: files that are there already.

    Example:
        >>> free_path(Path("tables"), "a b", ".csv", [Path("tables/A_B.csv")]).name
        'a_b_2.csv'
    """
    stem = re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip(".") or "_"
    used = {path.name.lower() for path in taken}
    names = (f"{stem}{'' if number == 1 else f'_{number}'}{suffix}" for number in range(1, len(taken) + 2))
    return folder / next(each for each in names if each.lower() not in used)
