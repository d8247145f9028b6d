"""What mtvision needs, as its installed package states it, and what of it is here."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module, metadata
from typing import NamedTuple

_NOT_FOR_USE = ("dev", "docs")
"""Extras for work on mtvision itself."""

_MODULES = {
    "opencv-python-headless": "cv2",
    "pillow": "PIL",
    "pyyaml": "yaml",
    "scikit-learn": "sklearn",
}
"""What packages are imported as, where that is not their name."""


@dataclass(frozen=True)
class Package:
    """A package that mtvision uses.

    Attributes:
        name: as it is installed by.
        needed: the versions that suit, such as ``">=2.6"``.
        version: that is installed; None if it is missing.
        extras: of mtvision, each of which brings it; empty if mtvision cannot do without.
        problem: what is wrong with it; empty if nothing is, or if it is missing and not needed.
    """

    name: str
    needed: str
    version: str | None
    extras: tuple[str, ...]
    problem: str


class Need(NamedTuple):
    """A package that mtvision uses.

    Attributes:
        name: as it is installed by.
        versions: that suit, such as ``">=2.6"``.
        extras: each of which brings it; empty if mtvision cannot do without.
    """

    name: str
    versions: str
    extras: tuple[str, ...]


def read_needs(requirements: Sequence[str], extras: Sequence[str]) -> list[Need]:
    """Return what requirements say, as a package's metadata has them: those of no extra first, then by name.

    Args:
        requirements: such as ``"optuna>=4.9; extra == 'study'"``.
        extras: that there are; those for work on mtvision itself are passed over.

    Example:
        >>> read_needs(["torch>=2.6", "optuna>=4.9; extra == 'study'"], ["study"])
        [Need(name='torch', versions='>=2.6', extras=()), Need(name='optuna', versions='>=4.9', extras=('study',))]
    """
    from packaging.requirements import Requirement

    found: dict[str, Need] = {}
    for requirement in map(Requirement, requirements):
        marker, name = requirement.marker, requirement.name
        always = marker is None or marker.evaluate({"extra": ""})
        of = () if marker is None else tuple(extra for extra in extras if marker.evaluate({"extra": extra}))
        users = tuple(extra for extra in of if extra not in _NOT_FOR_USE)
        if always:
            found[name] = Need(name, str(requirement.specifier), ())
        elif users and name != "mtvision":
            before = found.get(name, Need(name, "", users))
            needed = before.extras and tuple(dict.fromkeys((*before.extras, *users)))
            found[name] = Need(name, str(requirement.specifier), needed)
    return sorted(found.values(), key=lambda need: (bool(need.extras), need.name))


def extra_of(module: str) -> str | None:
    """Return the smallest extra of mtvision that brings a module, None if none does."""
    needs, top = _needs(), module.partition(".")[0]
    brought = [extra for need in needs if _module_of(need.name) == top for extra in need.extras]
    sizes = {extra: sum(extra in need.extras for need in needs) for extra in brought}
    return min(sizes, key=lambda extra: (sizes[extra], extra), default=None)


def _needs() -> list[Need]:
    """Return what the installed mtvision states; nothing where it is run without having been installed."""
    try:
        return read_needs(
            metadata.requires("mtvision") or [], metadata.metadata("mtvision").get_all("Provides-Extra") or []
        )
    except metadata.PackageNotFoundError:
        return []


def installed_packages() -> Iterator[Package]:
    """Yield the packages that mtvision uses, those that it cannot do without first; what is there is imported."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else its import asks the network for a newer version
    for need in _needs():
        version = version_of(need.name)
        yield Package(need.name, need.versions, version, need.extras, package_problem(need, version))


def package_problem(need: Need, version: str | None) -> str:
    """Return what is wrong with a package, empty if nothing is.

    Args:
        need: of mtvision.
        version: that is installed; None: it is missing, which is a problem if no extra brings it.
    """
    from packaging.specifiers import SpecifierSet

    if version is None:
        return "" if need.extras else f"is missing: pip install '{need.name}{need.versions}'"
    if not SpecifierSet(need.versions).contains(version, prereleases=True):
        return f"version {version} is installed: pip install '{need.name}{need.versions}'"
    try:
        import_module(_module_of(need.name))
    except Exception as error:  # noqa: BLE001 - a broken installation raises anything, and is to be told
        reason = " ".join(str(error).split())[:200]
        return f"is installed but cannot be imported ({type(error).__name__}: {reason})"
    return ""


def _module_of(package: str) -> str:
    return _MODULES.get(package, re.sub(r"[-.]", "_", package))


def version_of(package: str) -> str | None:
    """Return the version of an installed package, None if it is missing."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
