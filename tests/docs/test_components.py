"""The page of parts is what the registries say now."""

import importlib.util
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field

import mtvision as mtv
from mtvision.registries import DETECTION_HEADS, NECKS, SEGMENTATION_HEADS, SUPPRESSIONS

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def generator():
    spec = importlib.util.spec_from_file_location("write_components", DOCS / "write_components.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rows_of(page, title):
    return page.split(f"\n## {title}\n")[1].split("\n## ")[0].strip().splitlines()[4:]


def test_the_page_is_up_to_date(generator):
    assert (DOCS / "components.md").read_text() == generator.page(), "run `make docs-tables`"


def test_every_part_of_the_library_has_a_row_in_order(generator):
    names = [row.split("`")[1] for row in rows_of(generator.page(), "Segmentation heads")]
    assert names == sorted(names) == SEGMENTATION_HEADS.names()


def test_a_row_says_what_the_docstring_and_the_signature_say(generator):
    def mine(*, width: Annotated[int, Field(ge=1)] | None = None, mode: str = "a|b"):
        """Mean of | boxes (Somebody et al. 2020, arXiv 2001.00001)."""

    mine.__module__ = "mtvision.suppression"
    SUPPRESSIONS.register("mine")(mine)
    row = next(row for row in rows_of(generator.page(), "Suppressions") if "`mine`" in row)
    assert row == (
        r"| `mine` | Mean of \| boxes. | Somebody et al. 2020, [arXiv 2001.00001](https://arxiv.org/abs/2001.00001) | "
        r"`width`: `None` (int >= 1 \| None)<br>`mode`: `'a\|b'` (str) |"
    )


def test_parts_from_elsewhere_are_left_out(generator):
    NECKS.register("foreign")(lambda feature_info: None)
    assert "`foreign`" not in generator.page()


def test_the_keys_of_the_config_are_found(generator):
    keys = generator.config_keys()
    assert keys[SEGMENTATION_HEADS] == ["model.segmentation_head", "model.auxiliary_heads"]
    assert keys[DETECTION_HEADS] == ["model.detection_head"]
    assert keys[SUPPRESSIONS] == ["model.detections.nms"]
    assert keys[mtv.SEGMENTATION_LOSSES] == ["training.seg_loss"]


def test_exceptions_name_heads_that_there_are(generator, monkeypatch):
    for role, name in generator.EXCEPTIONS:
        assert name in getattr(mtv, role).own_names()
        assert set(generator.EXCEPTIONS[role, name]) <= set(generator.ABILITIES)
    monkeypatch.setattr(generator, "EXCEPTIONS", {("SEGMENTATION_HEADS", "fcn"): {"exports": "no: why"}})
    row = next(row for row in rows_of(generator.page(), "Segmentation heads") if "`fcn`" in row)
    assert row.endswith("| yes | no: why |")
