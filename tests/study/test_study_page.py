"""The page on studies says what is true: its Python runs, its commands and figures are those of the library."""

import re
from pathlib import Path

import pandas as pd
import pytest
import yaml
from small_study import BASE
from typer.testing import CliRunner

import mtvision as mtv
from mtvision.cli import app
from mtvision.study.planning.orthogonal import orthogonality

pytestmark = pytest.mark.usefixtures("without_curves")

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "study.md").read_text()


@pytest.fixture(scope="module")
def scope(tmp_path_factory):
    """Run the page's first block in a folder of its own, and return its names."""
    config = mtv.Config(**BASE).replace({"system.epochs": 1, "model.activation": "relu"})
    block = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)[0]
    names = {"config": config}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("page"))
        exec(block, names)
        names["files"] = sorted(str(path) for path in Path("studies/a/report").iterdir())
    return names


@pytest.mark.slow
def test_the_first_block_runs_as_it_stands(scope):
    assert scope["study"].plan(probe=False).num_runs == 12
    assert list(scope["findings"].effects["factor"])[:1] == ["model.activation"]
    assert scope["files"] == [f"studies/a/report/{name}" for name in ("plots", "report.html", "report.md", "tables")]


def test_every_command_of_the_page_is_one():
    commands = re.findall(r"^mtvision study (\w+)(.*)$", PAGE, flags=re.MULTILINE)
    assert len(commands) >= 7
    for verb, rest in commands:
        described = CliRunner().invoke(app, ["study", verb, "--help"]).output
        assert all(option in described for option in re.findall(r"--[a-z-]+", rest.partition("#")[0])), (verb, rest)


def test_the_table_of_designs_has_all_of_them():
    assert set(re.findall(r"^\| `\{?(?:name: )?(\w+)", PAGE, flags=re.MULTILINE)) >= set(mtv.DESIGNS.names())


def test_the_stated_clearness_of_fractional_designs_is_the_librarys():
    factors = {"model.dropout_rate": [0.1, 0.2], "training.clip_norm": [1.0, 2.0], "training.ema_decay": [0.9, 0.99]}
    factors |= {f"training.{name}": [1, 2] for name in ("accumulate", "keep_best", "max_skipped_steps")}
    factors |= {f"training.{name}": [0.1, 0.2, 0.3] for name in ("lr", "weight_decay", "warmup_epochs")}
    factors |= {"training.auxiliary_weight": [0.1, 0.2, 0.3], "training.backbone_lr_factor": [0.1, 0.2, 0.3]}
    for runs, strongest in ((27, 0.105), (54, 0.037)):
        plan = mtv.Study(BASE, factors, {"name": "fractional", "runs": runs}).plan(probe=False)
        labels = [factor.labels for factor in plan.factors]
        rows = [
            [of.index(run.levels[factor.name]) for of, factor in zip(labels, plan.factors, strict=True)]
            for run in plan.runs
        ]
        assert round(orthogonality(rows, [len(of) for of in labels])[0], 3) == strongest


def test_the_committed_study_can_be_planned_and_its_figures_are_the_reports():
    study = mtv.Study.load(ROOT / "docs" / "study" / "study.yaml")
    plan = study.plan(probe=False)
    assert (plan.num_runs, plan.sentences) == (54, [])
    report = (ROOT / "docs" / "study" / "report.md").read_text()
    assert yaml.safe_load((ROOT / "docs" / "study" / "study.yaml").read_text())["design"]["name"] == "fractional"
    names = [factor.name for factor in plan.factors]
    done = pd.read_csv(ROOT / "docs" / "study" / "tables" / "runs.csv", dtype=str, keep_default_na=False)
    assert sorted(map(tuple, done[["seed", *names]].to_numpy())) == sorted(
        (str(run.seed), *(run.levels[name] for name in names)) for run in plan.runs
    )
    plain = {name: text.replace("\N{MINUS SIGN}", "-") for name, text in (("report", report), ("page", PAGE))}
    effects = pd.read_csv(ROOT / "docs" / "study" / "tables" / "effects.csv")
    shown = effects[effects["shown"]]
    assert len(shown) == 2
    for row in shown.itertuples():
        numbers = [f"{number:.3f}" for number in (row.effect, row.low, row.high)]
        assert all(number in text for number in numbers for text in plain.values())
    for figure in ("0.371 to 0.440", "0.461", "0.443", "0.406"):
        assert all(figure in text for text in plain.values())
