"""A report as Markdown."""

import re
from pathlib import Path

from mtvision.report.blocks import Block, Bullets, Cards, Cell, Code, Legend, Picture, Section, Table, Text

_SPECIAL = re.compile(r"([\\`*\[\]|~$#])")
_AT_A_WORDS_END = re.compile(r"(?<!\w)_|_(?!\w)")


def markdown(title: str, sections: list[Section], folder: Path) -> str:
    """Return the report as Markdown as GitHub shows it; pictures are linked relative to a folder.

    Args:
        title: of the report.
        sections: of the report.
        folder: in which the file will lie.
    """
    parts = [f"# {escape(title)}"]
    for section in sections:
        parts.append(f"## {escape(section.title)}")
        parts += [_block(block, folder) for block in section.blocks]
    return "\n\n".join(parts) + "\n"


def escape(text: str) -> str:
    r"""Return text that Markdown shows as it is, in one line.

    Example:
        >>> escape("<b>|leaky_relu|_x"), escape("a*b")
        ('&lt;b&gt;\\|leaky_relu\\|\\_x', 'a\\*b')
    """
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _AT_A_WORDS_END.sub(r"\\_", _SPECIAL.sub(r"\\\1", text))


def _block(block: Block, folder: Path) -> str:
    match block:
        case Text():
            return f"**{escape(block.text)}**" if block.important else escape(block.text)
        case Bullets():
            mark = "**" if block.important else ""
            return "\n".join(f"* {mark}{escape(line)}{mark}" for line in block.lines)
        case Table():
            table = _table(block, folder)
            return _folded(block.caption, table) if block.folded else f"{escape(block.caption)}\n\n{table}"
        case Picture():
            return f"{_picture(block.caption, block.path, folder)}\n\n{escape(block.caption)}"
        case Code():
            code = _fenced(block.text)
            return _folded(block.caption, code) if block.folded else f"{escape(block.caption)}\n\n{code}"
        case Legend():
            return "\n".join(f"* {escape(sign.text)}" for sign in block.signs)
        case Cards():
            return _cards(block, folder)


def _picture(alt: str, path: Path, folder: Path) -> str:
    return f"![{escape(alt)}]({path.relative_to(folder).as_posix()})"


def _folded(caption: str, content: str) -> str:
    return f"<details><summary>{escape(caption)}</summary>\n\n{content}\n\n</details>"


def _table(table: Table, folder: Path) -> str:
    lines = ["| " + " | ".join(escape(column.heading) for column in table.columns) + " |"]
    lines.append(
        "|" + "|".join(" :-- " if column.kind in ("text", "picture") else " --: " for column in table.columns) + "|"
    )
    lines += ["| " + " | ".join(_cell(cell, folder) for cell in row) + " |" for row in table.rows()]
    return "\n".join(lines)


def _cell(cell: Cell, folder: Path) -> str:
    return escape(cell.text) if cell.picture is None else _picture("", cell.picture, folder)


def _fenced(code: str) -> str:
    """Fence code with more backticks than it has in a row."""
    longest = max((len(run) for run in re.findall("`+", code)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}python\n{code}\n{fence}"


def _cards(cards: Cards, folder: Path) -> str:
    parts = [f"### {escape(cards.title)}"] if cards.title else []
    parts += [escape(cards.caption)] if cards.caption else []
    for card in cards.cards:
        parts.append(f"**{escape(card.title)}**: {escape(card.text)}")
        parts.append(_picture(card.alt, card.picture, folder))
        if card.lines:
            parts.append("\n".join(f"* {escape(line)}" for line in card.lines))
    return "\n\n".join(parts)
