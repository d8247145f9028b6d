"""Look into a wheel and an sdist: is all in them that belongs there, and nothing else?

Call: ``python .ci/check_distributions.py SOURCE_TREE FOLDER_OF_BOTH``. It needs the standard library only.
"""

import sys
import tarfile
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

TOP_OF_SDIST = ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff", "SECURITY.md", "PKG-INFO")


def main(root: Path, folder: Path) -> None:
    """Check both files; the first thing that is wrong ends it with one sentence."""
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    modules = {
        path.relative_to(root / "src").as_posix()
        for path in (root / "src" / "mtvision").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    check_wheel(wheel, modules, tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"])
    check_sdist(sdist, modules)
    for file in (wheel, sdist):
        sys.stdout.write(f"{file.name}: {file.stat().st_size / 2**20:.1f} MiB, as it should be\n")


def check_wheel(wheel: Path, modules: set[str], project: dict[str, object]) -> None:
    """See that a wheel has the package, its metadata and nothing else."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        info = Parser().parsestr(archive.read(metadata).decode())
    place = metadata.removesuffix("METADATA")
    inside = {name for name in names if not name.startswith(place)}
    expect(inside == modules, f"{wheel.name}: differs from src/mtvision in {sorted(inside ^ modules)[:5]}")
    expect("mtvision/py.typed" in inside, f"{wheel.name}: no py.typed")
    for name in ("entry_points.txt", "licenses/LICENSE"):
        expect(place + name in names, f"{wheel.name}: no {name}")
    expect(
        info["Requires-Python"] == project["requires-python"], f"{wheel.name}: says Python {info['Requires-Python']}"
    )
    expect(info["Version"] in wheel.name, f"{wheel.name}: says version {info['Version']}")
    expect(bool(info.get_payload()), f"{wheel.name}: has no description")


def check_sdist(sdist: Path, modules: set[str]) -> None:
    """See that an sdist has the package, its tests and its documents, and no leftovers."""
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    missing = sorted({*TOP_OF_SDIST, "tests/conftest.py", *(f"src/{name}" for name in modules)} - names)
    expect(not missing, f"{sdist.name}: lacks {missing[:5]}")
    leftovers = sorted(name for name in names if name.endswith(".pyc") or name.startswith((".venv", "runs", "data/")))
    expect(not leftovers, f"{sdist.name}: has {leftovers[:5]}")


def expect(good: bool, sentence: str) -> None:
    """End with a sentence where something is not as it should be."""
    if not good:
        sys.exit(sentence)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
