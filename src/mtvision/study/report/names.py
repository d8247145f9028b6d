"""Names of factors as a person reads them in a report."""

from collections.abc import Sequence

from mtvision.study.analysis.changes import JOIN


def short_names(factors: Sequence[str]) -> dict[str, str]:
    """Return the last part of each dotted key, where it is the only one of that name.

    Example:
        >>> list(short_names(["model.activation", "tasks.a.loss", "tasks.b.loss"]).values())
        ['activation', 'tasks.a.loss', 'tasks.b.loss']
    """
    last = [name.rpartition(".")[2] for name in factors]
    return {name: short if last.count(short) == 1 else name for name, short in zip(factors, last, strict=True)}


def shorten(name: str, short: dict[str, str]) -> str:
    """Return the short form of a factor's name, or of several that are joined."""
    if name in short:
        return short[name]
    return JOIN.join(short.get(part, part) for part in name.split(JOIN))
