"""What an import costs: parts are loaded where they are asked for, torch's satellites where they are used."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import mtvision as mtv

SATELLITES = [
    "timm",
    "albumentations",
    "torchmetrics",
    "matplotlib",
    "optuna",
    "torchvision",
    "cv2",
    "accelerate",
    "torchjd",
    "cvxpy",
    "rich",
    "pandas",
    "ensemble_boxes",
    "numba",
    "huggingface_hub",
]


ALL_PARTS = """
import mtvision as mtv
from mtvision import registries
mtv.Config(), mtv.data
for registry in vars(registries).values():
    if isinstance(registry, registries.Registry):
        registry.own_names()
"""
"""A program that reads a config and lists each role, which loads all parts."""


def output_of(code):
    """Return what a new interpreter prints."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_import_loads_neither_torch_nor_pydantic():
    code = "import sys, mtvision; print([name for name in ('torch', 'numpy', 'pydantic') if name in sys.modules])"
    assert output_of(code) == "[]"


def test_all_parts_load_none_of_the_satellites():
    code = f"{ALL_PARTS}\nimport sys; print([name for name in {SATELLITES!r} if name in sys.modules])"
    assert output_of(code) == "[]"


def test_no_part_loads_numpys_random_numbers():
    """NumPy 2 loads them when they are first asked for; an annotation is no reason to ask."""
    said = "print('numpy.random' in sys.modules)"
    before, after = output_of(f"import sys, torch; {said}\n{ALL_PARTS}\n{said}").split()
    if before == "True":
        pytest.skip("this NumPy, or this torch, loads them itself")
    assert after == "False"


def test_the_command_tells_its_verbs_without_torch():
    code = """
import sys
from mtvision.cli import app
app(["--help"], standalone_mode=False)
app(["train", "--help"], standalone_mode=False)
print("torch" in sys.modules)
"""
    *told, loaded = output_of(code).splitlines()
    assert any("check-data" in line for line in told)
    assert loaded == "False"


@pytest.mark.parametrize("words", ["mtvision tra", "mtvision "])
def test_verbs_are_completed_without_torch(words):
    code = f"""
import os, sys
os.environ |= {{"_MTVISION_COMPLETE": "complete_bash", "COMP_WORDS": {words!r}, "COMP_CWORD": "1"}}
from mtvision.cli import app
try:
    app(prog_name="mtvision")
except SystemExit:
    print("torch" in sys.modules)
"""
    *told, loaded = output_of(code).splitlines()
    assert "train" in told
    assert loaded == "False"


def test_the_version_is_told_without_torch():
    code = "from mtvision.cli import app; app(['--version'], standalone_mode=False)"
    told = output_of(f"{code}; import sys; print('torch' in sys.modules)")
    assert told.splitlines() == [f"mtvision {mtv.__version__}", "False"]


def test_why_a_module_cannot_be_imported_is_told(monkeypatch):
    """Python takes an AttributeError for a name that is not there."""

    def broken(module):
        raise AttributeError("module 'torch' has no attribute 'uint9'")

    monkeypatch.setattr(mtv, "import_module", broken)
    for name, module in (("build_model", "mtvision.factory"), ("ops", "mtvision.ops")):
        with pytest.raises(ImportError, match=rf"mtvision\.{name}: {module} cannot be imported \(.*'uint9'\)"):
            mtv.__getattr__(name)  # what Python calls where nothing of that name was imported yet


def test_names_whose_extra_is_not_installed_are_not_listed(monkeypatch):
    """``help`` and completion get each name that is listed."""
    monkeypatch.setattr(mtv, "find_spec", lambda name: None if name == "pandas" else object())
    assert {"Study", "analyze", "compare"} & set(dir(mtv)) == set()
    assert {"Config", "train", "data", "visualize", "__version__"} <= set(dir(mtv))


@pytest.mark.parametrize("name", mtv.__all__)
def test_every_public_name_is_there(name):
    assert getattr(mtv, name) is not None
    assert name in dir(mtv)


def test_what_type_checkers_read_is_what_is_imported():
    """The names under ``TYPE_CHECKING`` come from the modules that they are imported from when asked for."""
    tree = ast.parse(Path(mtv.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    names = {alias.name: node.module for node in block.body for alias in node.names}
    modules = {name for name, module in names.items() if module == "mtvision"}
    assert {name: module for name, module in names.items() if name not in modules} == mtv._HOMES
    assert set(mtv.__all__) <= set(names)
    assert all(Path(sys.modules[f"mtvision.{name}"].__file__).exists() for name in modules if getattr(mtv, name))


def test_a_module_of_the_package_is_there_without_an_import_of_its_own():
    assert output_of("import mtvision as mtv; print(mtv.target_files.__name__)") == "mtvision.target_files"


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        mtv.nothing  # noqa: B018
    assert not hasattr(mtv, "nothing")


@pytest.mark.slow
def test_any_module_can_be_the_first_and_every_registry_finds_its_own_parts_from_there():
    """What is imported first decides in which order the others come: no order may end in a circle."""
    package = Path(mtv.__file__).parent
    files = [path.relative_to(package).with_suffix("") for path in package.rglob("*.py")]
    names = sorted({".".join(["mtvision", *path.parts]).removesuffix(".__init__") for path in files})
    told = output_of(FIRST_IMPORTS.format(names=[name for name in names if not name.endswith("__main__")]))
    first, *others = told.splitlines()
    assert others == []
    assert len(names) > 300
    assert len(first.split()) > 100


FIRST_IMPORTS = """
import os, accelerate, albumentations, matplotlib, optuna, pandas, timm, torch, torchmetrics, torchvision, typer

def parts():
    from mtvision import registries
    of_all = [each for each in vars(registries).values() if isinstance(each, registries.Registry)]
    return [f"{{each.noun}}:{{name}}" for each in of_all for name in each.own_names()]

def in_child(name):
    reader, writer = os.pipe()
    if os.fork() == 0:
        try:
            __import__(name)
            os.write(writer, " ".join(parts()).replace("\\n", " ").encode())
        except BaseException as error:
            os.write(writer, f"{{name}}: {{error!r}}".encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as told:
        text = told.read()
    os.wait()
    return text

expected = None
for name in {names}:
    told = in_child(name)
    if expected is None:
        expected = told
        print(told)
    elif told != expected:
        print(name, told)
"""
