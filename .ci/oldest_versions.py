"""Print the lower bound of every dependency in pyproject.toml as a pin: the constraints of `check_oldest.sh`.

Call: ``python .ci/oldest_versions.py [EXTRA ...]``; it needs the standard library only.
"""

import re
import sys
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"
OWN_EXTRA = re.compile(r"mtvision\[([\w,-]+)\]")
BOUND = re.compile(r"(?P<name>[\w-]+)(?:\[[\w,-]+\])?>=(?P<version>[\w.]+)")


def oldest(extras: list[str]) -> list[str]:
    """Return ``name==version`` of each dependency of the package and of these extras.

    Raises:
        ValueError: if a dependency has no lower bound.
    """
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    pins = {}
    for requirement in [*project["dependencies"], *wanted(project["optional-dependencies"], extras)]:
        bound = BOUND.match(requirement)
        if bound is None:
            raise ValueError(f"pyproject.toml: '{requirement}' has no lower bound")
        pins[bound["name"]] = f"{bound['name']}=={bound['version']}"
    return sorted(pins.values())


def wanted(optional: dict[str, list[str]], extras: list[str]) -> list[str]:
    """Return the requirements of extras, and of the extras of this package that they name."""
    found = []
    for extra in extras:
        for requirement in optional[extra]:
            own = OWN_EXTRA.fullmatch(requirement)
            found += wanted(optional, own[1].split(",")) if own else [requirement]
    return found


if __name__ == "__main__":
    sys.stdout.write("\n".join(oldest(sys.argv[1:])) + "\n")
