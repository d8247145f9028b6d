"""What another revision of mtvision cost, and this one: the parts of ``revision_parts.py``, in turns.

    python benchmarks/before_and_after.py REVISION [--turns 3] [--repeats 3] [--images 64] [--output FILE]

REVISION is whatever git takes: a tag, a commit, ``main~20``. Its ``src`` is put into a temporary folder, nothing here
is touched, and both run with the same interpreter and packages on the same files. Each turn is a process for the one
and then for the other; told are the medians of CPU seconds, and the median of the turns' ratios.
"""

import argparse
import compileall
import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import data_folders
from reporting import Row, Table, report

ROOT = Path(__file__).parents[1]
Found = Mapping[str, float | str]


def main(
    revision: str,
    turns: int = 3,
    repeats: int = 3,
    images: int = 64,
    backbone: str = "resnet18",
    output: Path | None = None,
) -> list[Row]:
    """Print and return a row for each part."""
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        source = source_of(revision, place / "before")
        now = ROOT / "src"
        for each in (source, now):  # modules that are compiled on one side only would make its import look fast
            compileall.compile_dir(each, quiet=2)
        folder = data_folders.generated(place / "images", images)
        options = [str(folder), "--repeats", str(repeats), "--backbone", backbone]
        found = [(measure(source, options), measure(now, options)) for _ in range(turns)]
    rows = [row_of(name, found) for name in found[0][1]]
    problems = {
        f"{name} cannot be measured in {which}: {value}": None
        for turn in found
        for which, parts in zip((revision, "this one"), turn, strict=True)
        for name, value in parts.items()
        if isinstance(value, str)
    }
    title = f"{revision} and this one, median of {turns} turns"
    report("before_and_after", [Table(title, rows, list(problems))], output)
    return rows


def source_of(revision: str, folder: Path) -> Path:
    """Put the ``src`` of a revision into a folder, and return its path.

    Raises:
        SystemExit: if git does not know the revision.
    """
    done = subprocess.run(["git", "archive", revision, "src"], cwd=ROOT, capture_output=True, check=False)
    if done.returncode:
        raise SystemExit(f"{revision}: {done.stderr.decode().strip()}")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(folder)  # of git itself
    return folder / "src"


def measure(source: Path, options: Sequence[str]) -> Found:
    """Return what one process found with the package of that source.

    Raises:
        SystemExit: if the process fails, as it does with the package of another source.
    """
    command = [sys.executable, str(Path(__file__).with_name("revision_parts.py")), str(source), *options]
    places = os.pathsep.join(filter(None, (str(source), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": places}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{source}: {done.stderr.strip()}")
    found: Found = json.loads(done.stdout.splitlines()[-1])
    return found


def row_of(part: str, found: Sequence[tuple[Found, Found]]) -> Row:
    """Return a row with the medians, and None for what could not be measured."""
    pairs = [
        (before, after)
        for first, second in found
        if not isinstance(before := first[part], str) and not isinstance(after := second[part], str)
    ]
    medians = [statistics.median(each) for each in zip(*pairs, strict=True)] or [None, None]
    ratio = statistics.median(after / before for before, after in pairs) if pairs else None
    return {"part": part, "before, CPU s": medians[0], "now, CPU s": medians[1], "now / before": ratio}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("revision")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3, help="of a part, in each process")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the table here too, as JSON")
    main(**vars(parser.parse_args()))
