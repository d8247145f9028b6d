"""Figures as small files, with labels that are shown as they are."""

import textwrap
from io import BytesIO
from pathlib import Path
from typing import Any

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Told apart without seeing red or green (Okabe and Ito, 2008, "Color Universal Design"); without its yellow."""

LINES = ("-", "--", ":", "-.")
"""For a second round of the colours."""

WIDTH = 9.0
"""Inches of a picture; 100 pixels each."""

_PALETTE = 64


def save_small(figure: Any, path: Path, colors: int = _PALETTE) -> Path:
    """Write a figure as a PNG with a palette: a third of the bytes, 100 pixels an inch.

    Args:
        figure: of matplotlib.
        path: of the file; its folder is made if it is missing.
        colors: of the palette.

    Returns:
        ``path``.
    """
    from PIL import Image

    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=100, facecolor="white")
    path.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(buffer) as picture:
        small = picture.convert("RGB").quantize(colors, dither=Image.Dither.NONE)
    small.save(path, format="PNG", optimize=True)
    return path


def plain(text: str, width: int = 0) -> str:
    r"""Return a label that matplotlib draws as it is: no formulas between dollars, no label that a legend leaves out.

    Args:
        text: of one line.
        width: characters from which on the middle is left out; 0: none is.

    Example:
        >>> plain("cost in $"), plain("augmentation_level", 11), plain("_hidden")
        ('cost in \\$', 'augme…level', ' _hidden')
    """
    if width and len(text) > width:
        head, tail = (width - 1 + 1) // 2, (width - 1) // 2
        text = f"{text[:head]}…{text[len(text) - tail :]}"
    return (" " if text.startswith("_") else "") + text.replace("$", r"\$")


def wrapped(text: str, width: int, lines: int = 3) -> str:
    r"""Return a label in lines of at most ``width`` characters; what does not fit into ``lines`` of them is left out.

    Example:
        >>> wrapped("activation + segmentation loss", 16)
        'activation +\nsegmentation\nloss'
    """
    return plain("\n".join(textwrap.wrap(text, width, max_lines=lines, placeholder=" …")) or text)


def look(index: int) -> dict[str, str]:
    """Return colour and line style of the curve of a number.

    Example:
        >>> look(0), look(7)
        ({'color': '#0072b2', 'linestyle': '-'}, {'color': '#0072b2', 'linestyle': '--'})
    """
    return {"color": COLORS[index % len(COLORS)], "linestyle": LINES[index // len(COLORS) % len(LINES)]}
