"""One colour for each kind of error, in pictures and plots alike."""

from collections.abc import Mapping

ERROR_COLORS: Mapping[str, str] = {
    "true": "#009e73",
    "ignored": "#9a9a9a",
    "classification": "#cc79a7",
    "localisation": "#e69f00",
    "both": "#0072b2",
    "duplicate": "#56b4e9",
    "background": "#d55e00",
    "missed": "#f0e442",
}
"""By the name of what is said of a box (Okabe and Ito, 2008, "Color Universal Design")."""


def rgb(color: str) -> tuple[int, int, int]:
    """Return red, green and blue of ``#rrggbb``, 0 to 255.

    Example:
        >>> rgb("#0072b2")
        (0, 114, 178)
    """
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)
