import json
import subprocess
import sys

import pytest
from small_study import content
from typer.testing import CliRunner

from mtvision.cli import app

pytestmark = pytest.mark.usefixtures("without_curves")


def run(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)))


@pytest.fixture
def definition(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(json.dumps(content(factors={"training.lr": [0.01, 0.1]}, seeds=[0, 1])))
    return path


@pytest.mark.slow
def test_a_study_from_its_plan_to_its_confirmation(definition, tmp_path):
    planned = run("study", "plan", definition)
    assert planned.exit_code == 0, planned.output
    assert "4 runs, 1 factor" in planned.output
    assert "a run of the base config takes about" in planned.output
    done = run("study", "run", definition, tmp_path / "a")
    assert done.exit_code == 0, done.output
    assert "4 of 4 runs done" in done.output
    reported = run("study", "report", tmp_path / "a")
    assert reported.exit_code == 0, reported.output
    assert (tmp_path / "a" / "report" / "report.html").is_file()
    confirmed = run("study", "confirm", tmp_path / "a", "--top", 1, "--seeds", 1)
    assert confirmed.exit_code == 0, confirmed.output
    assert "held_out" in confirmed.output


def test_a_wrong_study_is_its_sentences_and_exit_code_2(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(json.dumps(content(factors={"training.lrr": [1, 2]})))
    failed = run("study", "plan", path)
    assert failed.exit_code == 2
    assert "Did you mean 'lr'?" in failed.output
    assert "Traceback" not in failed.output


def test_a_folder_without_a_study_is_a_sentence(tmp_path):
    failed = run("study", "work", tmp_path)
    assert failed.exit_code == 2
    assert "there is no study in it" in failed.output


def test_the_help_of_each_verb_has_an_example():
    for verb in ("plan", "run", "work", "report", "confirm"):
        helped = run("study", verb, "--help")
        assert helped.exit_code == 0
        assert f"mtvision study {verb}" in helped.output


def test_the_command_is_installed_and_starts_without_torchs_satellites():
    code = "import sys, mtvision.cli; print([name for name in ('optuna', 'pandas', 'timm') if name in sys.modules])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"
