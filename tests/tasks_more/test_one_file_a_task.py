"""A task is one file with what it is made of: nothing else of the package knows that it is there."""

import ast
from pathlib import Path

import pytest

import mtvision
from mtvision.registries import TASKS

SOURCE = Path(mtvision.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))

FURTHER = ["depth", "classification"]
OTHER_MEANINGS = {
    "depth": {"data/writers/write_voc.py"},  # of Pascal VOC's XML: the number of channels
    "classification": {  # of TIDE: an error of a box, the wrong class
        "analysis/run_report_lessons.py",
        "analysis/run_report_tables.py",
        "visualize/error_colors.py",
        "visualize/marks.py",
    },
}


def words(tree: ast.Module) -> set[str]:
    """Return the modules that a file imports, the names that it imports from them, and its texts."""
    found: set[str] = set()
    exports = [node for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"]
    exported = {id(inner) for node in exports for inner in ast.walk(node)}  # losses has a module classification too
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in exported:
            found.add(node.value)
    return found


def who_knows(name: str) -> set[str]:
    """Return the files that import a task's modules or write its name."""
    modules = (f"mtvision.tasks.{name}", f"mtvision.heads.{name}")
    return {
        path.relative_to(SOURCE).as_posix()
        for path in FILES
        for word in words(ast.parse(path.read_text()))
        if word == name or word.startswith(modules)
    }


def test_the_search_finds_what_is_known():
    """The standard tasks stand in the keys of the config: their names are known outside."""
    assert {"factory.py", "tasks/segmentation.py", "tasks/__init__.py"} <= who_knows("segmentation")


@pytest.mark.parametrize("name", FURTHER)
def test_no_file_outside_tasks_and_heads_knows_a_further_task(name: str):
    assert name in TASKS.own_names()
    knows = who_knows(name)
    assert f"tasks/{name}.py" in knows
    assert {path for path in knows if not path.startswith(("tasks/", "heads/"))} == OTHER_MEANINGS.get(name, set())


@pytest.mark.parametrize("name", FURTHER)
def test_no_further_task_knows_another_or_a_standard_one(name: str):
    own = (f"mtvision.tasks.{name}", "mtvision.tasks.base", "mtvision.tasks.Task")
    for path in (SOURCE / "tasks").glob(f"{name}*.py"):
        tasks = {word for word in words(ast.parse(path.read_text())) if word.startswith("mtvision.tasks.")}
        assert {word for word in tasks if not word.startswith(own)} == set()
