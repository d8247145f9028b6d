"""The page on training says what is true, and its code runs."""

import re
from pathlib import Path
from typing import get_args

import pytest

import mtvision as mtv
from mtvision.config_sections import SystemConfig
from mtvision.training.callbacks import StepInfo
from mtvision.training.run_folder import FREE_TO_CHANGE

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "training.md").read_text()
CONFIG = {
    "system": {"epochs": 1, "device": "cpu"},
    "model": {"backbone": "test_resnet", "neck": {"name": "fpn", "channels": 16}},
    "training": {"batch_size": 2},
    "data": {"dataset": {"name": "shapes", "num_images": 8, "image_size": 32}, "image_size": 32},
}


def section(title):
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def first_cells(text):
    return [re.findall(r"`([^`]+)`", cell) for cell in re.findall(r"^\| (`[^|]*) \|", text, flags=re.MULTILINE)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where all Python blocks ran, one after the other."""
    folder = tmp_path_factory.mktemp("page")
    mtv.Config(**CONFIG).save(folder / "run.yaml")
    scope = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for block in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL):
            exec(block, scope)
    return folder, scope


def test_every_python_block_runs(folder):
    where, scope = folder
    assert {path.name for path in where.iterdir()} == {"run.yaml", "runs", "rates.png"}
    assert set(scope["result"].metrics) == {*scope["numbers"], "score"}
    assert scope["history"].column("train/loss") == scope["result"].history.column("train/loss")
    assert scope["config"].training.lr == scope["found"].suggestion
    assert len(mtv.train(scope["config"], where / "runs" / "d", progress=False).history) == 1


def test_the_run_folder_has_what_the_page_says_and_no_more(folder):
    run = folder[0] / "runs" / "a"
    told = {name.rstrip("/") for names in first_cells(section("The run folder")) for name in names}
    told = {f"checkpoints/{name}" if name == "last.previous" else name for name in told} - {"checkpoints/epoch-0007"}
    there = {path.name for path in run.iterdir()} - {"checkpoints"}
    there |= {f"checkpoints/{path.name}" for path in (run / "checkpoints").iterdir()}
    pytest.importorskip("tensorboard")
    # after one epoch there is no checkpoint before the last one
    assert there | {"checkpoints/last.previous"} == told


def test_what_may_change_is_what_the_library_lets_change():
    paragraph = section("Resuming").split("**What may change**")[1].split("\n\n")[0]
    assert tuple(re.findall(r"`((?:system|model|training|data)\.\w+)`", paragraph)) == FREE_TO_CHANGE


def test_the_hooks_are_those_of_the_class_with_their_arguments():
    rows = first_cells(section("Callbacks"))
    assert [names[0].partition("(")[0] for names in rows] == [name for name in vars(mtv.Callback) if name[0] != "_"]
    text = re.search(r"with a `StepInfo`: (.*) \|", section("Callbacks")).group(1)
    assert re.findall(r"`(\w+)`", text) == list(StepInfo.__dataclass_fields__)


def test_the_ways_of_progress_are_those_of_the_config():
    ways = [names[0] for names in first_cells(section("Progress"))][1:]
    assert sorted(ways) == sorted(get_args(SystemConfig.model_fields["progress"].annotation))


def test_every_key_on_the_page_is_one_of_the_config():
    keys = {key for key in re.findall(r"`(system|model|training|data)\.(\w+)", PAGE) if key[1] != "safetensors"}
    dumped = mtv.Config().dump()
    assert keys
    assert [f"{part}.{key}" for part, key in keys if key not in dumped[part]] == []


def test_the_other_page_leads_to_sections_of_this_one():
    """GitHub's anchors: lower case, hyphens for spaces."""
    text = (ROOT / "docs" / "configuration.md").read_text()
    anchors = {
        re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in re.findall(r"^## (.*)$", PAGE, re.M)
    }
    links = re.findall(r"\(training\.md#([\w-]+)\)", text)
    assert len(links) >= 4
    assert set(links) <= anchors
