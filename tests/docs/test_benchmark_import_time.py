"""The benchmark of imports; what the interpreter would say is mostly given here."""

import json
import subprocess
import sys

import pytest

TRACE = """import time: self [us] | cumulative | imported package
import time:       100 |        100 |   torch.inner
import time:      9000 |       9100 | torch
import time:        20 |         20 |       yaml.reader
import time:        30 |         50 |     yaml
import time:       400 |        450 |   mtvision.config
import time:         7 |          7 |     pydantic.types
import time:       500 |        507 |   mtvision.model
a warning that has nothing to do with it
import time:        11 |         11 |   numpy
import time:        60 |       1028 | mtvision
import time:         9 |          9 |     mtvision.errors
import time:        13 |         22 |   numpy.random
import time:        70 |         92 | mtvision.late
import time:         5 |          5 |   pydantic.main
"""


@pytest.fixture
def module(load_benchmark):
    return load_benchmark("import_time")


def test_a_trace_is_read_as_a_tree(module):
    found = module.brought_after("torch", TRACE)
    assert {(each.name, each.microseconds, each.importer) for each in found} == {
        ("mtvision", 60, ""),
        ("mtvision.late", 70, ""),
        ("numpy.random", 13, "mtvision.late"),
        ("mtvision.errors", 9, "mtvision.late"),
        ("numpy", 11, "mtvision"),
        ("mtvision.model", 500, "mtvision"),
        ("pydantic.types", 7, "mtvision.model"),
        ("mtvision.config", 400, "mtvision"),
        ("yaml", 30, "mtvision.config"),
        ("yaml.reader", 20, "mtvision.config"),
        ("pydantic.main", 5, ""),
    }


def test_own_times_add_up_to_what_the_interpreter_says(module):
    command = [sys.executable, "-X", "importtime", "-c", "import json, xml.etree.ElementTree"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    lines = [line.removeprefix("import time:").split("|") for line in text.splitlines()]
    names = [name for _, _, name in lines]
    outermost = [int(each) for _, each, name in lines[names.index(" json") + 1 :] if not name.startswith("  ")]
    modules = module.brought_after("json", text)
    assert "xml.etree.ElementTree" in {each.name for each in modules}
    assert "json.decoder" not in {each.name for each in modules}
    assert sum(each.microseconds for each in modules) == pytest.approx(sum(outermost), abs=2 * len(modules))


def test_a_row_a_package_with_the_median_of_its_traces(module):
    traces = [module.brought_after("torch", TRACE.replace(" 400 ", f" {own} ")) for own in (400, 4000, 700)]
    rows = module.package_rows(traces)
    assert [(row["package"], row["ms"], row["modules"]) for row in rows] == [
        ("mtvision", pytest.approx(1.339), 5),
        ("yaml", pytest.approx(0.05), 2),
        ("numpy", pytest.approx(0.024), 2),
        ("pydantic", pytest.approx(0.012), 2),
    ]
    assert [row["brought by"] for row in rows[1:]] == ["mtvision.config", "mtvision.late", "mtvision.model"]


def test_seconds_above_torch_are_compared_turn_by_turn(module):
    turns = {"import torch": [(1, 2), (3, 9), (2, 3)], "import mtvision": [(2, 4), (9, 9), (5, 8)]}
    rows = module.rows_of({name: [module.Seconds(*each) for each in of_name] for name, of_name in turns.items()})
    assert list(rows[0].values()) == ["import torch", 2, 3, 0, 0]
    assert list(rows[1].values()) == ["import mtvision", 5, 8, 3, 2]


def test_programs_take_turns_and_the_first_turn_is_not_counted(module, monkeypatch):
    order = []
    monkeypatch.setattr(module, "run", lambda program: order.append(program) or module.Seconds(len(order), 0))
    assert module.measured_processes({"a": "A", "b": "B"}, 2) == {"a": [(3, 0), (5, 0)], "b": [(4, 0), (6, 0)]}
    assert order == ["A", "B"] * 3


def test_what_mtvision_adds_is_less_than_the_process(module):
    inside = module.seconds_inside()
    assert list(inside) == ["import mtvision", "a first config"]
    assert 0 < inside["import mtvision"].wall < inside["a first config"].wall
    assert inside["a first config"].wall < module.run(["-c", module._FIRST_CONFIG]).wall


def test_rows_have_the_medians_of_each_statement(module):
    turns = [{"a": module.Seconds(cpu, 2 * cpu), "b": module.Seconds(5, cpu)} for cpu in (3, 1, 2)]
    rows = module.inside_rows(turns)
    assert rows == [{"program": "a", "CPU s": 2, "wall s": 4}, {"program": "b", "CPU s": 5, "wall s": 2}]


def test_a_program_that_fails_ends_the_benchmark(module):
    assert 0 < module.run(["-c", "sum(range(10 ** 6))"]).cpu < 60
    with pytest.raises(SystemExit, match=r"(?s)exit code 1.*no_such_package"):
        module.run(["-c", "import no_such_package"])


def test_peers_that_are_not_installed_are_left_out_and_named(module, monkeypatch):
    programs, missing = module.programs_of("resnet34")
    assert not set(missing) & {name.removeprefix("import ") for name in programs}
    assert "'resnet34'" in programs["build_model, resnet34"][1]
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    programs, missing = module.programs_of("resnet18")
    assert missing == ["torchvision", "timm", "segmentation_models_pytorch"]
    expected = [
        "python",
        "import torch",
        "import mtvision",
        "a first config",
        "build_model, resnet18",
        "mtvision --help",
    ]
    assert list(programs) == expected


def test_all_tables_are_told_and_written(module, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(module, "run", lambda program: module.Seconds(1.0, 2.0))
    monkeypatch.setattr(module, "seconds_inside", lambda: {"import mtvision": module.Seconds(0.125, 0.25)})
    monkeypatch.setattr(module, "trace", lambda: module.brought_after("torch", TRACE))
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    programs, inside, packages = module.main(repeats=1, output=tmp_path / "import_time.json")
    assert {row["s above torch (wall)"] for row in programs.rows} == {0}
    assert packages.rows[0]["package"] == "mtvision"
    written = json.loads((tmp_path / "import_time.json").read_text())["tables"]
    assert [table["rows"] for table in written] == [programs.rows, inside.rows, packages.rows]
    printed = capsys.readouterr().out
    assert (
        "Wanted: 'import mtvision' at most 0.2 s above 'import torch'; found 0.000 s as the difference of processes,"
        in printed
    )
    assert "0.250 s within a process that has torch." in printed
    assert "left out: timm is not installed (pip install -r benchmarks/requirements.txt)" in printed
    assert "All 4 packages: 1 ms." in printed
