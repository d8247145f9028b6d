"""What a study compares: each level with its base level, and levels that always change together as one."""

from collections.abc import Iterator, Mapping

from mtvision.study.analysis.cells import Cells
from mtvision.study.analysis.changes import Comparison
from mtvision.study.analysis.main_effects import MainEffects

_FACTORS_NAMED = 3  # of those that a comparison cannot be told apart from


def find_comparisons(cells: Cells, model: MainEffects) -> list[Comparison]:
    """Return what is compared, in the order of the factors.

    A level whose effect the main-effects model cannot tell from another factor's is joined with the levels that always
    come with it, if that makes one effect that can be told; each such effect is there once. What cannot be told even so
    has a reason.
    """
    found: dict[frozenset[frozenset[tuple[str, str]]], Comparison] = {}
    for name, labels in cells.factors.items():
        for label in labels[1:]:
            comparison = _resolve(Comparison({name: label}, {name: labels[0]}), cells, model)
            sides = (frozenset(comparison.level.items()), frozenset(comparison.base.items()))
            found.setdefault(frozenset(sides), comparison)
    return list(found.values())


def _resolve(single: Comparison, cells: Cells, model: MainEffects) -> Comparison:
    for levels in (single.level, single.base):
        if not cells.which(levels).any():
            ((name, label),) = levels.items()
            return Comparison(single.level, single.base, f"no finished run has {name}={label}")
    if model.can_estimate(single):
        return single
    for joint in _joint(single, cells):
        if model.can_estimate(joint):
            return joint
    confounded = model.confounded(single)
    more = len(confounded) - _FACTORS_NAMED
    others = " and ".join(confounded) if more <= 0 else f"{', '.join(confounded[:_FACTORS_NAMED])} and {more} more"
    return Comparison(single.level, single.base, f"it cannot be told apart from the effect of {others}")


def _joint(single: Comparison, cells: Cells) -> Iterator[Comparison]:
    """Return what a comparison may be joined with, in the order of the factors."""
    ((name, label),) = single.level.items()
    here, there = cells.which(single.level), cells.which(single.base)
    always: dict[str, tuple[str, str]] = {}  # factors with one level here and another there, whatever else changes
    same: dict[str, tuple[str, str]] = {}  # levels that exactly the same runs have
    for other, labels in cells.factors.items():
        column = cells.labels[other]
        levels, bases = set(column[here]), set(column[there])
        if len(levels) == 1 and len(bases) == 1 and levels != bases:
            always[other] = (levels.pop(), bases.pop())
        elif len(levels) == 1 and not levels & {labels[0]} and not (set(column[~here]) & levels):
            same[other] = (levels.pop(), labels[0])
    always[name] = (label, single.base[name])
    yield _ordered(cells, always)
    yield _ordered(cells, same | {name: always[name]})
    yield _ordered(cells, same | always)


def _ordered(cells: Cells, pairs: Mapping[str, tuple[str, str]]) -> Comparison:
    names = [name for name in cells.factors if name in pairs]
    return Comparison({name: pairs[name][0] for name in names}, {name: pairs[name][1] for name in names})
