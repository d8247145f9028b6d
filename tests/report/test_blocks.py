"""Blocks in HTML and Markdown: legends, cards, small pictures in tables."""

from html.parser import HTMLParser

import pandas as pd
import pytest
from PIL import Image

from mtvision.report.blocks import Card, Cards, Column, Legend, Section, Sign, Table
from mtvision.report.files import free_path, write_tables
from mtvision.report.html import html
from mtvision.report.markdown import markdown


@pytest.fixture
def sections(tmp_path):
    path = tmp_path / "small.png"
    Image.new("RGB", (4, 4), "red").save(path)
    frame = pd.DataFrame({"picture": [path, None], "name": ["<a>", "b"], "value": [0.5, float("nan")]})
    columns = [Column("picture", "seen", "picture"), Column("name", "name"), Column("value", "value", "number")]
    cards = [
        Card("one & <two>", "text", path, "what it shows", ["line *"], {"score": 0.25}),
        Card("other", "text", path, "what it shows", values={"errors": 2.0}),
    ]
    return [
        Section(
            "Things",
            [Table("t", "caption", columns, frame), Legend([Sign("#ff0000", "red"), Sign("#00ff00", "x", True)])],
        ),
        Section("Cards", [Cards("All", cards, searchable=True, small=True, caption="below <it>")]),
        Section("More", [Cards("", cards[:1])]),
    ]


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.open = [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "img", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_html_has_pictures_signs_and_values_to_sort_by(sections):
    text = html("title", sections)
    tags = Tags(text).tags
    small = [each for tag, each in tags if tag == "img" and each.get("class") == "small"]
    assert [(each["alt"], each["src"][:22]) for each in small] == [("seen", "data:image/png;base64,")]
    assert [each["style"] for tag, each in tags if tag == "span" and "style" in each] == [
        "background: #ff0000",
        "border-color: #00ff00",
    ]
    assert [each.get("data-values") for tag, each in tags if tag == "article"] == ["0.25 ", " 2.0", None]
    options = [each["value"] for tag, each in tags if tag == "option"]
    assert options == ["", "1 0", "-1 0", "1 1", "-1 1"]
    assert "one &amp; &lt;two&gt;" in text
    assert "below &lt;it&gt;" in text
    assert ("a", {}) not in tags


def test_markdown_says_the_same(sections, tmp_path):
    text = markdown("title", sections, tmp_path)
    assert "| ![](small.png) | &lt;a&gt; | 0.500 |" in text
    assert "* red\n* x" in text
    picture = "![what it shows](small.png)"
    assert f"### All\n\nbelow &lt;it&gt;\n\n**one &amp; &lt;two&gt;**: text\n\n{picture}\n\n* line \\*" in text


def test_a_tables_file_has_no_pictures(sections, tmp_path):
    (path,) = write_tables(sections, tmp_path / "tables")
    assert path.read_text().split() == ["name,value", "<a>,0.5", "b,"]


def test_a_file_has_a_name_of_its_own(tmp_path):
    taken = []
    for name in ("a/b", "A b", "..", ""):
        taken.append(free_path(tmp_path, name, ".csv", taken))
    assert [path.name for path in taken] == ["a_b.csv", "A_b_2.csv", "_.csv", "__2.csv"]
