"""A report as Markdown."""

import re
from pathlib import Path

from mtvision.study.report.blocks import Block, Bullets, Cards, Code, Picture, Section, Table, Text

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
            return (
                _folded(block.caption, _table(block)) if block.folded else f"{escape(block.caption)}\n\n{_table(block)}"
            )
        case Picture():
            return f"![{escape(block.caption)}]({block.path.relative_to(folder).as_posix()})\n\n{escape(block.caption)}"
        case Code():
            code = _fenced(block.text)
            return _folded(block.caption, code) if block.folded else f"{escape(block.caption)}\n\n{code}"
        case Cards():
            return _cards(block, folder)


def _folded(caption: str, content: str) -> str:
    return f"<details><summary>{escape(caption)}</summary>\n\n{content}\n\n</details>"


def _table(table: Table) -> str:
    lines = ["| " + " | ".join(escape(column.heading) for column in table.columns) + " |"]
    lines.append("|" + "|".join(" :-- " if column.kind == "text" else " --: " for column in table.columns) + "|")
    lines += ["| " + " | ".join(escape(cell.text) for cell in row) + " |" for row in table.rows()]
    return "\n".join(lines)


def _fenced(code: str) -> str:
    """Fence code with more backticks than it has in a row."""
    longest = max((len(run) for run in re.findall("`+", code)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}python\n{code}\n{fence}"


def _cards(cards: Cards, folder: Path) -> str:
    parts = [f"### {escape(cards.title)}"]
    for image, path in cards.images:
        scores = ", ".join(f"{escape(task)} {value:.2f}" for task, value in image.scores.items())
        parts.append(f"**{escape(image.image_id)}**: {image.score:.2f} ({scores})")
        parts.append(f"![image, truth, prediction]({path.relative_to(folder).as_posix()})")
        if image.reasons:
            lines = [f"* {escape(reason.text + (' *' if reason.matters else ''))}" for reason in image.reasons]
            parts.append("\n".join(lines))
    return "\n\n".join(parts)
