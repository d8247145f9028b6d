"""Every Python block of every page runs, here or in the test that this one names; what cannot run says so itself."""

import ast
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from page_blocks import (
    PAGES,
    ROOT,
    SMALL,
    blocks_in,
    blocks_of,
    is_printed,
    names_for_granted,
    prepare,
    run_block,
    write_photo,
)
from PIL import Image

import mtvision as mtv

pytestmark = pytest.mark.usefixtures("without_curves")

ELSEWHERE = {
    "docs/balancing.md": ("tests/balancing/test_balancing_page.py", [0]),
    "docs/export.md": ("tests/exporting/test_export_page.py", [0, 1, 2, 3]),
    "docs/hub.md": ("tests/hub/test_hub_page.py", [0, 1]),
    "docs/inference.md": ("tests/inference/test_inference_page.py", [0, 1, 2, 3]),
    "docs/study.md": ("tests/study/test_study_page.py", [0]),
    "docs/tasks.md": ("tests/tasks_more/test_tasks_page.py", [0, 1, 2]),
    "docs/training.md": ("tests/docs/test_training_page.py", [0, 1, 2, 3]),
}
"""The test that runs the blocks of a page, by their places among its Python blocks."""

SHORTER = {
    "README.md": {'"resnet18"': '"test_resnet"', "500": "8", "128": "32", '"epochs": 16': '"epochs": 1'},
    "docs/start.md": {"400": "8", "96": "32", '"epochs": 12': '"epochs": 1'},
    "docs/coming_from/torchvision.md": {"min_size=512": "min_size=64"},
    "docs/multi_task_gain.md": {"seeds=[0, 1, 2, 3, 4]": "seeds=[0]"},
}
"""What is made smaller before a block runs, since it would take minutes as it stands."""


def a_focal_loss(scope):
    mtv.Config.load("run.yaml").replace({"training.seg_loss": "focal"}).save("run.yaml")


def a_table_of_weather(scope):
    rows = [f"{sample.image_id},sun" for sample in scope["val"]]
    Path("weather.csv").write_text("\n".join(["image_id,weather", *rows]))


def images_of_coco_and_a_task_of_ones_own(scope):
    mtv.data.write_coco(scope["val"], "coco", "val")
    of_coco = {"data.dataset": "coco", "data.dataset_root": "coco"}
    mtv.Config.load("run.yaml").replace(of_coco).save("run.yaml")
    scope["MyTask"] = type("MyTask", (), {})


def a_table_of_runs(scope):
    text = (ROOT / "tests" / "study" / "reported_runs.csv").read_text()
    Path("runs.csv").write_text(re.sub(r"(model|training|data)\.", "", text))


def a_folder_of_ones_own(scope):
    for split in ("train", "val"):
        write_photo(Path(f"mine/{split}/images/a.jpg"), 1)
        write_photo(Path(f"mine/{split}/images/b.jpg"), 2)
        mask = np.zeros((48, 60), np.uint8)
        mask[10:30, 10:40] = 1
        Path(f"mine/{split}/masks").mkdir()
        Image.fromarray(mask).save(f"mine/{split}/masks/a.png")
        Path(f"mine/{split}/boxes.csv").write_text(
            "image,xmin,ymin,xmax,ymax,class\na.jpg,10,10,40,30,cat\nb.jpg,,,,,\n"
        )
    Path("mine/classes.txt").write_text("cat\n")


def no_neck_of_ones_own(scope):
    mtv.Config.load("run.yaml").replace({"model.neck": None}).save("run.yaml")


def the_reported_runs(scope):
    Path("tests/study").mkdir(parents=True)
    shutil.copy(ROOT / "tests" / "study" / "reported_runs.csv", "tests/study")


def the_committed_study(scope):
    shutil.copytree(ROOT / "docs" / "study" / "tables", "docs/study/tables")


def images_of_coco(scope):
    mtv.data.write_coco(scope["val"], "coco", "val")


def images_of_yolo(scope):
    for split in ("train", "val"):
        write_photo(Path(f"images_of_mine/{split}/images/a.jpg"), 3)
        Path(f"images_of_mine/{split}/labels").mkdir()
        Path(f"images_of_mine/{split}/labels/a.txt").write_text("0 0.5 0.5 0.4 0.4\n")
        write_photo(Path(f"images_of_mine/{split}/images/b.jpg"), 4)
        Path(f"images_of_mine/{split}/labels/b.txt").write_text("")
    Path("images_of_mine/data.yaml").write_text("train: train/images\nval: val/images\nnames: [cat]\n")


BEFORE = {
    "docs/coming_from/torchvision.md": images_of_coco,
    "docs/coming_from/ultralytics.md": images_of_yolo,
    "docs/how_to/own_data.md": a_folder_of_ones_own,
    "docs/how_to/single_task.md": no_neck_of_ones_own,
    "docs/how_to/read_a_study.md": the_committed_study,
    "docs/configuration.md": a_focal_loss,
    "docs/error_analysis.md": a_table_of_weather,
    "docs/evaluation.md": images_of_coco_and_a_task_of_ones_own,
    "docs/report.md": the_reported_runs,
    "docs/study.md": a_table_of_runs,
}
"""What a page has of its reader: files and names that it does not show."""


def own_blocks(page):
    """Return the Python blocks of a page that are run here."""
    elsewhere = ELSEWHERE.get(page, ("", []))[1]
    blocks = [block for block in blocks_of(page) if block.language == "python"]
    return [block for place, block in enumerate(blocks) if place not in elsewhere]


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory):
    """A run of one epoch on eight images, which pages load as ``runs/a`` and ``runs/b``."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mtvision.visualize.curves.write_curves", lambda *arguments, **options: None)
        mtv.train(SMALL, folder, progress=False)
    return folder


@pytest.mark.parametrize("page", [page for page in PAGES if own_blocks(page)])
def test_every_python_block_runs(page, finished_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        shutil.copytree(finished_run, tmp_path / "runs" / name)
    prepare(tmp_path, page)
    scope = names_for_granted()
    BEFORE.get(page, lambda scope: None)(scope)
    blocks = list(blocks_of(page))
    for block in own_blocks(page):
        printed = run_block(block, scope, SHORTER.get(page, {}))
        following = blocks[blocks.index(block) + 1 :][:1]
        if following and following[0].title == "prints":
            assert is_printed(following[0].text, printed), f"{following[0].place}: {printed}"


def test_what_runs_elsewhere_is_read_there_and_what_is_made_smaller_is_on_the_page():
    for page, (test, places) in ELSEWHERE.items():
        assert Path(page).name in (ROOT / test).read_text(), page
        assert len([block for block in blocks_of(page) if block.language == "python"]) > max(places)
    for page, texts in SHORTER.items():
        assert [text for text in texts if text not in PAGES[page]] == []


def test_what_a_block_prints_is_compared_line_by_line():
    assert is_printed("a\nb ...\n", "a\nb and more\n")
    assert not is_printed("a\n", "a\nb\n")
    assert not is_printed("a\nb\n", "a\nc\n")


def test_code_that_is_not_run_says_so_and_is_python():
    """A block in ``py`` is another library's, and its title says that nobody ran it."""
    for block in blocks_in("py"):
        assert "not run here" in block.title, block.place
        ast.parse(block.text, block.place)


def test_there_are_no_other_languages():
    known = {"python", "py", "yaml", "bash", "toml", "text", ""}
    assert [block.place for page in PAGES for block in blocks_of(page) if block.language not in known] == []


def test_every_config_can_be_read():
    for block in blocks_in("yaml"):
        if block.title.endswith("run.yaml"):
            mtv.Config(**yaml.safe_load(block.text))


def test_every_script_and_target_in_a_command_is_there():
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    script = re.compile(r"(?:python|torchrun|launch)(?: --?[\w-]+(?:=\S+)?)* ((?:examples|benchmarks|docs)/\S+\.py)")
    for block in blocks_in("bash"):
        assert [name for name in script.findall(block.text) if not (ROOT / name).exists()] == [], block.place
        assert set(re.findall(r"^make ([\w-]+)", block.text, flags=re.MULTILINE)) <= set(targets), block.place
