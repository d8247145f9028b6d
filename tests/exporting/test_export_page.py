"""The page on export says what is true, and its code runs."""

import re
from pathlib import Path

import pytest

import mtvision as mtv
from mtvision.exporting import exporter
from mtvision.exporting.metadata import EXTRA_FILE, KEY
from mtvision.types import Classes
from small_exports import require_packages

pytestmark = pytest.mark.slow  # an export takes its time

PAGE = (Path(__file__).parents[2] / "docs" / "export.md").read_text()
CONFIG = {
    "model": {"backbone": "test_resnet", "segmentation_head": "single_scale", "detection_head": "single_scale"},
    "data": {"dataset": {"name": "shapes", "num_images": 4, "image_size": 64}, "image_size": 64},
}


@pytest.fixture(scope="module")
def scope(tmp_path_factory):
    """What all Python blocks left, run one after the other; the best checkpoint of the run is a small model."""
    require_packages()
    folder = tmp_path_factory.mktemp("page")
    mtv.Config(**CONFIG).save(folder / "run.yaml")
    model = mtv.build_model(CONFIG, classes=Classes(("background", *"abcde"), tuple("abcde")))
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(exporter, "load_model", {"runs/a": model}.__getitem__)
        for block in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL):
            exec(block, found)
    return found


def test_the_blocks_do_what_their_comments_say(scope):
    told = re.search(r"exported\.outputs  # (\(.*\))", PAGE)[1]
    assert str(scope["exported"].outputs) == told
    assert scope["found"]["det_boxes"].shape == (2, 100, 4)
    assert scope["about"].tasks["det"].classes == tuple("abcde")
    assert scope["small"].num_layers > 0


def test_the_table_names_the_outputs(scope):
    (row,) = re.findall(r"^\| `\"inside\"` .*$", PAGE, flags=re.MULTILINE)
    assert set(re.findall(r"`(\w+) \(", row)) == set(scope["exported"].outputs)


def test_the_smallest_sides_are_as_said(scope):
    assert "33 pixels where the coarsest stride is\n32" in PAGE
    assert scope["about"].smallest_side == 33


def test_the_metadata_stand_where_the_page_says(scope):
    assert f"`{KEY}`" in PAGE
    assert f"`{EXTRA_FILE}`" in PAGE
