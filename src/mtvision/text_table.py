"""Tables of plain text."""

from collections.abc import Sequence


def text_table(rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """Return rows of cells with aligned columns, two spaces between them.

    Args:
        rows: of equal length; headings are a row like any other.
        left: how many of the first columns are aligned to the left; the others, numbers, to the right.

    Example:
        >>> print(text_table([("part", "ms"), ("neck", "12")]))
        part  ms
        neck  12
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if place < left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
