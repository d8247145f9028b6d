"""The documentation says what is true."""

import re
from pathlib import Path

import pytest
import yaml

import mtvision as mtv

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def documented_keys(section):
    text = (ROOT / "docs" / "configuration.md").read_text()
    table = text.split(f"\n## {section}\n")[1].split("\n## ")[0]
    main, *inner = table.split("\n\n`")  # a section within the section has a table of its own, behind its name
    tables = {text.partition("`")[0]: _rows(text) for text in inner}
    return {key: tables.get(key, default) for key, default in _rows(main).items()}


def _rows(table):
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \|", table, flags=re.MULTILINE)
    return {key: yaml.safe_load(default.strip("`")) for key, default in rows}


@pytest.mark.parametrize("section", mtv.Config.SECTIONS)
def test_configuration_page_has_every_key_with_its_default(section):
    defaults = mtv.Config().dump()[section]
    if section == "data":
        defaults |= {"image_size": defaults["image_size"][0], "dataset_root": f"./{defaults['dataset_root']}"}
    assert documented_keys(section) == defaults


@pytest.mark.parametrize(
    "registry", ["SEGMENTATION_HEADS", "SEGMENTATION_LOSSES", "BOX_LOSSES", "SCHEDULES", "AUGMENTATIONS"]
)
def test_configuration_page_names_every_choice(registry):
    text = "".join((ROOT / "docs" / f"{page}.md").read_text() for page in ("configuration", "components"))
    own = set(getattr(mtv, registry)._factories) - {"albumentations"}
    assert [name for name in own if f"`{name}`" not in text] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_between_pages_lead_somewhere(page):
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_readmes_sentences_are_those_of_the_library():
    wrong = {
        "model": {"backbne": "resnet18", "segmentation_head": "fnc"},
        "training": {"lr": -1, "seg_loss": {"name": "focal", "gama": 1}},
    }
    with pytest.raises(mtv.ConfigError) as caught:
        mtv.Config(**wrong)
    readme = (ROOT / "README.md").read_text()
    assert all(problem in readme for problem in caught.value.problems)
    assert len(caught.value.problems) == 4
