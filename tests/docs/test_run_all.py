"""The script that runs the benchmarks, with stand-ins for them."""

import json
import subprocess
import sys

import pytest

from benchmark_scripts import BENCHMARKS

STAND_IN = """
import json, os, sys
machine = {"processor": "abacus", "cores": 2, "threads": 1, "system": "Linux", "python": "3.11", "gpu": None}
rows = [{"said": " ".join(sys.argv[1:-2]), "threads": os.environ.get("OMP_NUM_THREADS", "unset")}]
tables = [{"title": sys.argv[0].rpartition("/")[2], "rows": rows, "notes": ["a note"]}]
content = {"benchmark": "x", "machine": {**machine, "versions": {"torch": "2.0"}}, "tables": tables}
assert sys.argv[-2] == "--output"
open(sys.argv[-1], "w").write(json.dumps(content))
"""


@pytest.fixture
def module(load_benchmark):
    return load_benchmark("run_all")


@pytest.fixture
def scripts(module, tmp_path):
    folder = tmp_path / "scripts"
    folder.mkdir()
    for name in module.BENCHMARKS:
        (folder / f"{name}.py").write_text(STAND_IN)
    return folder


def test_all_run_in_their_order_with_the_threads_of_the_docs(module, scripts, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert module.main(folder=tmp_path / "bench", scripts=scripts) == []
    page = (tmp_path / "bench" / "table.md").read_text()
    assert [line[3:] for line in page.splitlines() if line.startswith("## ")] == list(module.BENCHMARKS)
    for name, benchmark in module.BENCHMARKS.items():
        (table,) = json.loads((tmp_path / "bench" / f"{name}.json").read_text())["tables"]
        assert table["rows"] == [{"said": "", "threads": "1" if benchmark.threads else "unset"}]
        assert f"**{name}.py**" in page
    assert "`OMP_NUM_THREADS=1 python benchmarks/metrics.py`" in page
    assert "`python benchmarks/train_step.py`" in page
    assert page.count("abacus, 2 cores, 1 threads, Linux, Python 3.11; torch 2.0") == len(module.BENCHMARKS)
    assert "a note" in page
    assert "--quick" not in page


def test_the_threads_are_those_of_the_command_in_the_docs(module):
    documented = (BENCHMARKS.parent / "docs" / "results.md").read_text()
    for name, benchmark in module.BENCHMARKS.items():
        prefix = "" if benchmark.threads is None else f"OMP_NUM_THREADS={benchmark.threads} "
        command = f"python benchmarks/{name}.py"
        if command in documented:
            before = documented.partition(command)[0]
            assert before.endswith(prefix)
            assert before.endswith("OMP_NUM_THREADS=1 ") == bool(prefix)


def test_the_others_run_where_one_fails(module, scripts, tmp_path):
    (scripts / "metrics.py").write_text("raise SystemExit('not the same work')")
    (scripts / "train_step.py").write_text("")  # writes nothing
    (scripts / "import_time.py").write_text(f"{STAND_IN}\nsys.exit(3)")  # wrote, and failed then
    (tmp_path / "metrics.json").write_text("{}")  # of an earlier call
    only = ["train_step", "metrics", "import_time", "memory"]
    assert module.main(only, folder=tmp_path, scripts=scripts) == ["train_step", "metrics", "import_time"]
    page = (tmp_path / "table.md").read_text()
    assert page.count("**Failed.**") == 3
    assert "**memory.py**" in page
    assert not (tmp_path / "metrics.json").exists()


def test_quick_gives_the_options_that_make_it_short_and_says_so(module, scripts, tmp_path):
    module.main(["data"], quick=True, folder=tmp_path, scripts=scripts)
    (table,) = json.loads((tmp_path / "data.json").read_text())["tables"]
    assert table["rows"][0]["said"] == module.BENCHMARKS["data"].quick
    assert "not for the docs" in (tmp_path / "table.md").read_text()


WITHOUT_TORCH = """
from typing import Any, NamedTuple
class Table(NamedTuple):
    title: str
    rows: Any
    notes: Any
markdown = str
"""


@pytest.mark.parametrize(("only", "code", "words"), [(["data"], 0, ""), (["memory", "data"], 1, "failed: memory")])
def test_the_exit_code_tells_of_a_failure_and_names_it(scripts, tmp_path, only, code, words):
    (scripts / "run_all.py").write_text((BENCHMARKS / "run_all.py").read_text())
    (scripts / "reporting.py").write_text(WITHOUT_TORCH)
    (scripts / "memory.py").write_text("raise SystemExit(5)")
    command = [sys.executable, scripts / "run_all.py", "--folder", tmp_path / "bench", "--only", *only]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr.strip()) == (code, words)
    assert (tmp_path / "bench" / "data.json").exists()


@pytest.mark.parametrize(
    "name",
    [
        "train_step",
        "inference",
        "data",
        "metrics",
        "segmentation_metrics",
        "import_time",
        "trainer_overhead",
        "memory",
        "scaling",
    ],
)
def test_every_benchmark_has_the_options_that_it_is_called_with(module, name):
    text = (BENCHMARKS / f"{name}.py").read_text()
    options = [word for word in module.BENCHMARKS[name].quick.split() if word.startswith("--")]
    assert [option for option in ("--output", "--repeats", *options) if f'"{option}"' not in text] == []
