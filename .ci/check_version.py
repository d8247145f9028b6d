"""See that a tag, the package, the changelog and the citation name one version; with ``--notes`` print what is new.

Call: ``python .ci/check_version.py v0.1.0 [--notes]``. It needs the standard library only.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def main(tag: str, notes: bool) -> None:
    """Check the files against a tag; every difference is told."""
    version = tag.removeprefix("v")
    changes = section(read("CHANGELOG.md"), version)
    found = {
        "src/mtvision/__init__.py": first(r'^__version__ = "(.+)"$', read("src/mtvision/__init__.py")),
        "CITATION.cff": first(r"^version: (\S+)$", read("CITATION.cff")),
        "CHANGELOG.md": version if changes else "no such heading with a date",
    }
    problems = [f"{name}: expected {version}, found {other}" for name, other in found.items() if other != version]
    if problems:
        sys.exit("\n".join(problems))
    if notes:
        sys.stdout.write(changes)


def section(changelog: str, version: str) -> str:
    r"""Return what the changelog says under the dated heading of a version, empty where there is none.

    Example:
        >>> section("# Changes\n\n## [0.2.0] - 2030-01-02\n\nNew.\n\n## [0.1.0] - 2029-01-02\n", "0.2.0")
        'New.\n'
    """
    head = rf"^## \[?{re.escape(version)}\]?\W+\d{{4}}-\d{{2}}-\d{{2}}\)?\n(.*?)(?=^## |\Z)"
    found = re.search(head, changelog, flags=re.MULTILINE | re.DOTALL)
    return found[1].strip() + "\n" if found else ""


def first(pattern: str, text: str) -> str:
    """Return the first group of the first match, "none" where there is no match."""
    found = re.search(pattern, text, flags=re.MULTILINE)
    return found[1] if found else "none"


def read(name: str) -> str:
    """Return a file of the repository."""
    return (ROOT / name).read_text(encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], "--notes" in sys.argv[2:])
