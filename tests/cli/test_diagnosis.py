"""What ``doctor`` finds, on this machine and on broken ones."""

import json
import math
import sys
from importlib import metadata
from pathlib import Path

import pytest
import torch
from command_line import run

import mtvision as mtv
from mtvision import diagnosis, installation
from mtvision.diagnosis import Device, Diagnosis, Place, doctor
from mtvision.installation import Need, Package, extra_of, package_problem, read_needs

STATED = [
    "torch>=2.6",
    "tomli>=2; python_version < '3'",
    "albumentations<2.1,>=2.0.8",
    "optuna>=4.9; extra == 'study'",
    "pandas>=2.2; extra == 'study'",
    "pandas>=2.2; extra == 'report'",
    "mtvision[report]; extra == 'study'",
    "pytest>=8; extra == 'dev'",
    "torch>=2.6; extra == 'dev'",
    "psycopg[binary]>=3.1; extra == 'postgresql'",
]
EXTRAS = ["study", "report", "dev", "postgresql"]


def test_needs_are_read_as_the_package_states_them():
    assert read_needs(STATED, EXTRAS) == [
        Need("albumentations", "<2.1,>=2.0.8", ()),
        Need("torch", ">=2.6", ()),
        Need("optuna", ">=4.9", ("study",)),
        Need("pandas", ">=2.2", ("study", "report")),
        Need("psycopg", ">=3.1", ("postgresql",)),
    ]


def test_the_smallest_extra_brings_a_module(monkeypatch):
    stated = [*STATED, "scikit-learn>=1.4; extra == 'study'"]
    monkeypatch.setattr(metadata, "requires", lambda name: stated)
    monkeypatch.setattr(installation, "_needs", lambda: read_needs(stated, EXTRAS))
    assert extra_of("pandas.core") == "report"
    assert extra_of("sklearn.ensemble") == "study"
    assert [extra_of(module) for module in ("torch", "pytest", "nothing", "")] == [None] * 4


@pytest.mark.parametrize(
    ("need", "version", "problem"),
    [
        (Need("torch", ">=2.6", ()), torch.__version__, ""),
        (Need("torch", ">=2.6", ()), None, "is missing: pip install 'torch>=2.6'"),
        (Need("optuna", ">=4.9", ("study",)), None, ""),
        (Need("torch", ">=99", ()), "2.6.0+cpu", "version 2.6.0+cpu is installed: pip install 'torch>=99'"),
        (Need("torch", "<2.1,>=2", ()), "2.1", "version 2.1 is installed: pip install 'torch<2.1,>=2'"),
        (Need("torch", ">=2.6", ()), "2.7.0.dev20250101", ""),
        (Need("pyyaml", ">=6", ()), "6.0", ""),
    ],
)
def test_what_is_wrong_with_a_package(need, version, problem):
    assert package_problem(need, version) == problem


def test_a_package_that_cannot_be_imported_is_a_problem(tmp_path, monkeypatch):
    (tmp_path / "broken_for_doctor.py").write_text("raise OSError('libcudart.so:\\n cannot open')")
    monkeypatch.syspath_prepend(tmp_path)
    told = package_problem(Need("broken-for-doctor", "", ()), "1.0")
    assert told == "is installed but cannot be imported (OSError: libcudart.so: cannot open)"


@pytest.fixture
def few_packages(monkeypatch):
    """Import none of the large packages, which takes seconds."""
    torch_alone = Package("torch", ">=2.6", torch.__version__, (), "")
    optuna = Package("optuna", ">=4.9", None, ("study",), "")
    monkeypatch.setattr(diagnosis, "installed_packages", lambda: iter([torch_alone, optuna]))


def test_this_machine_is_usable(few_packages):
    found = doctor()
    assert found.usable
    assert found.problems == ()
    assert found.python == ".".join(map(str, sys.version_info[:3]))
    assert found.threads == torch.get_num_threads()
    assert found.devices[0].name == "cpu"
    assert found.devices[0].memory > 0.1
    assert found.places[0].path == Path.cwd()
    assert found.places[1].path == diagnosis.cache_root()
    assert all(place.free > 0 for place in found.places)
    assert len([device for device in found.devices if device.name.startswith("cuda")]) == torch.cuda.device_count()


def test_the_text_has_a_row_for_all(few_packages):
    text = str(doctor())
    assert "torch    " in text
    row = next(line for line in text.splitlines() if line.startswith("optuna"))
    assert row.split() == ["optuna", "-", ">=4.9", "study"]
    assert text.endswith("everything that is needed is there")


def test_a_machine_that_lacks_something_is_not(monkeypatch):
    missing = Package("timm", ">=1", None, (), "is missing: pip install 'timm>=1'")
    broken = Package("optuna", ">=4.9", "5", ("study",), "is installed but cannot be imported (X: y)")
    monkeypatch.setattr(diagnosis, "installed_packages", lambda: iter([missing, broken]))
    found = doctor()
    assert not found.usable
    assert found.problems == ("timm: is missing: pip install 'timm>=1'",)
    assert "optuna: is installed but cannot be imported (X: y)" in found.warnings
    assert "error: timm: is missing" in str(found)


def test_without_metadata_it_says_so(monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", missing)
    assert "run from its source tree" in doctor().problems[0]
    assert extra_of("optuna") is None


def test_a_place_that_is_full_or_closed_is_told(tmp_path, monkeypatch):
    place = diagnosis._place("runs", tmp_path / "not" / "there", 0.0)
    assert (place.path, place.problem) == (tmp_path / "not" / "there", "")
    assert place.free > 0
    assert diagnosis._place("runs", tmp_path, math.inf).problem.endswith("GiB are left for runs")

    def closed(**place):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(diagnosis, "TemporaryFile", closed)
    shut = diagnosis._place("runs", tmp_path, 0.0)
    assert shut.problem == "runs cannot be written there (Read-only file system)"
    assert math.isnan(shut.free)


def test_a_driver_without_a_build_for_it_is_told(monkeypatch):
    monkeypatch.setattr(diagnosis.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.version, "hip", None)
    assert "built without CUDA" in next(iter(diagnosis._driver_warnings()))
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "finds no device" in next(iter(diagnosis._driver_warnings()))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert list(diagnosis._driver_warnings()) == []


def diagnosed(problems=()):
    return Diagnosis(
        version="1",
        python="3.11",
        system="Linux",
        threads=2,
        packages=(Package("torch", ">=2.6", "2.7", (), ""),),
        devices=(Device("mps", "Metal", math.nan, math.nan),),
        places=(Place("runs", Path("/x"), 1.25, ""),),
        problems=tuple(problems),
        warnings=("little disk",),
    )


def test_the_verb_tells_it_as_text_and_json(monkeypatch):
    monkeypatch.setattr(diagnosis, "doctor", diagnosed)
    told = run("doctor")
    assert (told.exit_code, told.output) == (0, f"{diagnosed()}\n")
    content = json.loads(run("doctor", "--json").output)
    assert content["devices"] == [{"name": "mps", "description": "Metal", "memory": None, "free": None}]
    assert content["places"][0]["path"] == "/x"
    assert content["usable"] is True


def test_the_verb_ends_with_1_where_something_is_missing(monkeypatch):
    monkeypatch.setattr(diagnosis, "doctor", lambda: diagnosed(["timm: is missing"]))
    told = run("doctor", "--json")
    assert told.exit_code == 1
    assert json.loads(told.output)["usable"] is False


def test_the_stated_needs_of_the_project_can_be_read():
    import tomllib

    project = tomllib.loads((Path(mtv.__file__).parents[2] / "pyproject.toml").read_text())["project"]
    needs = read_needs(project["dependencies"], [])
    assert {need.name for need in needs} >= {"torch", "timm", "typer"}
    assert [need for need in needs if need.extras] == []
