"""The files around the package agree with each other and with it."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import mtvision as mtv

ROOT = Path(__file__).parents[2]
PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
PROJECT = tomllib.loads(PYPROJECT)["project"]
EXTRAS = PROJECT["optional-dependencies"]


def text(name):
    return (ROOT / name).read_text(encoding="utf-8")


def ci(script, *arguments):
    command = [sys.executable, str(ROOT / ".ci" / script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_version_has_one_place():
    assert PROJECT["dynamic"] == ["version"]
    assert "version" not in PROJECT
    assert yaml.safe_load(text("CITATION.cff"))["version"] == mtv.__version__


def test_the_citation_has_what_its_format_wants():
    citation = yaml.safe_load(text("CITATION.cff"))
    assert citation.keys() >= {"cff-version", "message", "title", "authors"}
    assert (citation["cff-version"], citation["license"]) == ("1.2.0", PROJECT["license"])


def test_each_dependency_has_a_lower_bound_and_a_reason():
    listed = [*PROJECT["dependencies"], *(one for extra in EXTRAS.values() for one in extra)]
    for requirement in listed:
        assert ">=" in requirement or requirement.startswith("mtvision["), requirement
        line = next(line for line in PYPROJECT.splitlines() if f'"{requirement}"' in line)
        before = PYPROJECT[: PYPROJECT.index(line)].splitlines()[-1]
        assert "# " in line or before.strip().startswith("#"), f"{requirement}: no reason"


def test_the_page_lists_the_extras_that_there_are():
    table = text("docs/installation.md").partition("## Extras")[2].partition("##")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, flags=re.MULTILINE)) == set(EXTRAS)


def test_the_page_says_the_oldest_versions_that_the_package_admits():
    table = text("docs/installation.md").partition("## Versions")[2].partition("##")[0]
    rows = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|", table, flags=re.MULTILINE))
    bounds = dict(re.findall(r'"([\w-]+)>=([\d.]+)', PYPROJECT))
    assert rows["Python"] == PROJECT["requires-python"].removeprefix(">=")
    assert rows["torch, torchvision"] == f"{bounds['torch']}, {bounds['torchvision']}"
    assert (rows["timm"], rows["NumPy"]) == (bounds["timm"], bounds["numpy"])


def test_the_pins_of_the_oldest_versions_are_the_lower_bounds():
    pins = ci("oldest_versions.py", "study").stdout.split()
    assert {"torch==2.6", "optuna==4.9", "pandas==2.2", "albumentations==2.0.8"} <= set(pins)
    assert not any(pin.startswith(("pytest", "mtvision")) for pin in pins)


def test_the_extra_of_development_has_what_the_tests_import():
    """Each package that a test imports at its top is a dependency, or comes with one that says so."""
    names = {"sklearn": "scikit-learn", "cv2": "opencv-python-headless", "yaml": "pyyaml", "PIL": "pillow"}
    brought = {"sqlalchemy", "typing_extensions", "psutil", "click"}  # by optuna, torch, accelerate and typer
    known = {re.split(r"[\[>=<]", one)[0].lower().replace("-", "_") for one in PROJECT["dependencies"]}
    known |= {re.split(r"[\[>=<]", one)[0].lower().replace("-", "_") for extra in EXTRAS.values() for one in extra}
    own = {path.stem for path in (ROOT / "tests").rglob("*")} | {"benchmarks", "examples", "mtvision", "tests"}
    found = set()
    for path in (ROOT / "tests").rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.partition(".")[0])
    foreign = found - own - brought - set(sys.stdlib_module_names)
    assert {names.get(name, name).replace("-", "_") for name in foreign} <= known


def test_every_supported_python_is_tested_and_claimed():
    tested = yaml.safe_load(text(".github/workflows/ci.yml"))["jobs"]["test"]["strategy"]["matrix"]["python"]
    claimed = [re.search(r":: (3\.\d+)$", line) for line in PROJECT["classifiers"]]
    assert tested == [found[1] for found in claimed if found]
    assert f">={tested[0]}" == PROJECT["requires-python"]


@pytest.mark.parametrize("path", sorted((ROOT / ".github" / "workflows").glob("*.yml")), ids=lambda path: path.name)
def test_what_a_workflow_calls_is_there(path):
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    assert "secrets." not in path.read_text(encoding="utf-8")
    targets = set(re.findall(r"^([\w-]+):", text("Makefile"), flags=re.MULTILINE))
    for job in workflow["jobs"].values():
        assert set([job["needs"]] if "needs" in job else []) <= workflow["jobs"].keys()
        for step in job.get("steps", []):
            assert set(re.findall(r"make ([\w-]+)", step.get("run", ""))) <= targets
            for script in re.findall(r"\.ci/[\w.]+", step.get("run", "")):
                assert (ROOT / script).is_file()


@pytest.mark.parametrize("name", ["bug.yml", "feature.yml"])
def test_the_forms_have_what_a_form_needs(name):
    form = yaml.safe_load(text(f".github/ISSUE_TEMPLATE/{name}"))
    assert form.keys() >= {"name", "description", "body"}
    for field in form["body"]:
        assert field["type"] in ("textarea", "checkboxes")
        assert field["id"].isidentifier()
        assert field["attributes"]["label"]


def test_a_tag_that_differs_is_refused():
    result = ci("check_version.py", "v9.9.9")
    assert result.returncode == 1
    assert f"CITATION.cff: expected 9.9.9, found {mtv.__version__}" in result.stderr
    assert f"src/mtvision/__init__.py: expected 9.9.9, found {mtv.__version__}" in result.stderr
    assert "CHANGELOG.md: expected 9.9.9" in result.stderr
