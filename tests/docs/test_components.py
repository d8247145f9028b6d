"""The page of parts is what the registries say now."""

import importlib.util
import re
from pathlib import Path
from typing import Annotated

import pytest
import torch
from pydantic import Field

import mtvision as mtv
from contract import Pyramid, SegmentationModel
from families import ONE_STRIDE, REFUSALS
from mtvision import registries
from mtvision.registries import DETECTION_HEADS, NECKS, SEGMENTATION_HEADS, SUPPRESSIONS
from mtvision.registry import Component

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


def test_exceptions_name_parts_that_there_are(generator, monkeypatch):
    for role, name in generator.EXCEPTIONS:
        assert role in generator.IN_THE_FORWARD_PASS
        assert name in getattr(registries, role).own_names() or generator.FROM_TIMM[role] == name
        assert set(generator.EXCEPTIONS[role, name]) <= set(generator.ABILITIES)
    monkeypatch.setattr(generator, "EXCEPTIONS", {("SEGMENTATION_HEADS", "fcn"): {"exports": "no: why"}})
    row = next(row for row in rows_of(generator.page(), "Segmentation heads") if "`fcn`" in row)
    assert row.endswith("| yes | no: why |  |")


def names_of(generator, role, text):
    of_role = {name: rules.get("not with", "") for (of, name), rules in generator.EXCEPTIONS.items() if of == role}
    return {name for name, rule in of_role.items() if text in rule}


@pytest.mark.parametrize("role", ["SEGMENTATION_HEADS", "DETECTION_HEADS", "NECKS"])
def test_refusals_of_one_stride_are_those_of_the_tests(generator, role):
    refused = {name for of, name, family in REFUSALS if of == role and family == ONE_STRIDE}
    assert names_of(generator, role, generator.ONE_STRIDE) == refused
    assert {family for _, _, family in REFUSALS} == {ONE_STRIDE}


def test_heads_that_need_several_images_are_those_that_say_so(generator):
    refused = set()
    for name in SEGMENTATION_HEADS.names():
        model = SegmentationModel(Component(name)).train()
        try:
            model(torch.rand(1, 3, 97, 97))
        except ValueError:  # of torch's batch norm: "more than 1 value per channel"
            refused.add(name)
    assert names_of(generator, "SEGMENTATION_HEADS", generator.ONE_IMAGE) == refused


def test_heads_that_need_features_of_one_width_are_those_that_say_so(generator):
    refused = set()
    for name in DETECTION_HEADS.names():
        try:
            DETECTION_HEADS.build(name, NECKS.build("none", Pyramid().feature_info).feature_info, 3)
        except mtv.ConfigError:
            refused.add(name)
    assert names_of(generator, "DETECTION_HEADS", generator.SEVERAL_WIDTHS) == refused
    rule = generator.EXCEPTIONS["NECKS", "none"]["not with"]
    assert set(re.findall(r"`(\w+)`", rule)) == refused


def test_the_row_of_a_detection_head_has_its_recipe(generator):
    row = next(row for row in rows_of(generator.page(), "Detection heads") if "| `retinanet` |" in row)
    assert "`neck`: `fpn(channels=256, extra_levels=2)`<br>`assigner`: `max_iou" in row
    assert "`box_weight`: `1.0`" in row
    assert "`nms_threshold`: `0.5`" in row


def test_the_rows_of_timm_are_described_as_all_others(generator):
    (row,) = rows_of(generator.page(), "Backbones")
    description = mtv.BACKBONES.describe("resnet18")
    assert row.startswith(f"| `resnet18`, ... | {description.summary} | {description.source} | `drop_path_rate`: `0.0`")
    assert "swin" in row
    assert rows_of(generator.page(), "Optimizers")[-1].startswith("| `lamb`, ... | Any of timm's optimizers, with")
