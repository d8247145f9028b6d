"""The benchmark that compares with another revision, on parts that take no time."""

import json
import subprocess
import sys

import pytest

from benchmark_scripts import BENCHMARKS


@pytest.fixture
def benchmark(load_benchmark):
    return load_benchmark("before_and_after")


def test_turns_are_paired_and_what_is_missing_is_told(benchmark, monkeypatch, tmp_path, capsys):
    calls, compiled = [], []
    seconds = {"old": iter([4.0, 6.0, 5.0]), "new": iter([1.0, 3.0, 2.0])}

    def measure(source, options):
        which = "new" if source == benchmark.ROOT / "src" else "old"
        calls.append((which, options[1:]))
        return {"step": next(seconds[which]), "cache": 1.0 if which == "new" else "KeyError: cache"}

    monkeypatch.setattr(benchmark, "measure", measure)
    monkeypatch.setattr(benchmark, "source_of", lambda revision, folder: folder / revision)
    monkeypatch.setattr(benchmark.data_folders, "generated", lambda folder, images: folder)
    monkeypatch.setattr(benchmark.compileall, "compile_dir", lambda folder, quiet: compiled.append(folder.name))
    rows = benchmark.main("v0", turns=3, repeats=2, output=tmp_path / "rows.json")
    assert calls == [(which, ["--repeats", "2", "--backbone", "resnet18"]) for which in ("old", "new")] * 3
    assert compiled == ["v0", "src"]
    assert rows == [
        {"part": "step", "before, CPU s": 5.0, "now, CPU s": 2.0, "now / before": 0.4},
        {"part": "cache", "before, CPU s": None, "now, CPU s": None, "now / before": None},
    ]
    assert json.loads((tmp_path / "rows.json").read_text())["tables"][0]["rows"] == rows
    assert "cache cannot be measured in v0: KeyError: cache" in capsys.readouterr().out


@pytest.fixture
def repository(benchmark, monkeypatch, tmp_path):
    """A repository with one revision of a package of that name, which is not this one."""
    folder = tmp_path / "repository"
    (folder / "src" / "mtvision").mkdir(parents=True)
    (folder / "src" / "mtvision" / "__init__.py").write_text("raise SystemExit('another mtvision')\n")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false", "-C", str(folder)]
    for words in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "one"]):
        subprocess.run([*git, *words], check=True)
    monkeypatch.setattr(benchmark, "ROOT", folder)
    return folder


def test_the_package_of_the_revision_is_the_one_that_is_imported(benchmark, repository, tmp_path):
    source = benchmark.source_of("HEAD", tmp_path / "before")
    assert (source / "mtvision" / "__init__.py").read_bytes() == (
        repository / "src" / "mtvision" / "__init__.py"
    ).read_bytes()
    with pytest.raises(SystemExit, match="another mtvision"):
        benchmark.measure(source, [str(tmp_path)])


@pytest.mark.usefixtures("repository")
def test_a_revision_that_is_none_is_told(benchmark, tmp_path):
    with pytest.raises(SystemExit, match="nothing_like_it: "):
        benchmark.source_of("nothing_like_it", tmp_path / "before")


@pytest.mark.slow
def test_each_part_is_measured(load_benchmark, tmp_path):
    folder = load_benchmark("data_folders").generated(tmp_path / "images", 8)
    command = [sys.executable, BENCHMARKS / "revision_parts.py"]
    options = [folder, "--repeats", "1", "--backbone", "test_resnet"]
    done = subprocess.run([*command, BENCHMARKS.parent / "src", *options], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found) == 7
    assert all(isinstance(value, float) and value > 0 for value in found.values()), found
    other = subprocess.run([*command, tmp_path, *options], capture_output=True, text=True, check=False)
    assert "mtvision comes from " in other.stderr
