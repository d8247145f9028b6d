"""The report: complete in itself, safe, and the same numbers in HTML, Markdown and CSV."""

import ast
import base64
import csv
import hashlib
import html as entities
import itertools
import json
import random
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from importlib import resources
from io import BytesIO

import pandas as pd
import pytest
from PIL import Image

import mtvision as mtv
from mtvision.analysis.gallery import Gallery, GalleryImage, Reason
from mtvision.study.analysis.analyze import analyze
from mtvision.study.analysis.table import RunTable
from mtvision.study.outside import read_runs
from mtvision.study.planning.factors import Factor, Level
from mtvision.study.report.writing import ReportContent, write_report

EVIL = "<script>alert(1)</script>"
FACTORS = {
    "model.activation": ("relu", EVIL, "a|b_*c*"),
    "training.lr": ("0.002", "0.01"),
    "data.augmentation_level": ("{{ 7 * 7 }}", "none"),
}
VOID_TAGS = {"meta", "img", "input", "br"}
BASE = {
    "model": {"backbone": "test_resnet"},
    "system": {"epochs": 2},
    "training": {"lr": 0.002, "loss_weights": {"seg": 1.0}},
}


def run_table():
    """One factor at a time, three seeds; the second activation is better, one run failed and one was pruned."""
    base = {name: labels[0] for name, labels in FACTORS.items()}
    configs = [base, *({**base, name: label} for name, labels in FACTORS.items() for label in labels[1:])]
    rows, curves, noise = [], {}, random.Random(3)
    for place, levels in enumerate(configs):
        for seed in range(3):
            name = f"run{place}-{seed}"
            score = 0.4 + 0.1 * (levels["model.activation"] == EVIL) + 0.01 * seed + noise.gauss(0, 0.002)
            state = {(3, 1): "failed", (4, 2): "pruned"}.get((place, seed), "finished")
            rows.append(
                {"run": name, "config": name, "seed": seed, "state": state, **levels}
                | {"score": score if state == "finished" else float("nan"), "seg/miou": score + 0.02}
                | {"det/map50": score - 0.1, "seg/pixel_accuracy": 0.8 + score / 10, "val/loss": 3 - score}
                | {"seconds": 100.0 + 3 * place + seed, "parameters": 11_234_567 + place, "my_number": 2.5 * place}
            )
            curves[name] = {
                "val/score": [score * epoch / 8 for epoch in range(1, 9)],
                "val/loss": [3 - 0.1 * epoch for epoch in range(8)],
                "train/loss": [3 - 0.2 * epoch for epoch in range(8)],
            }
    return RunTable(pd.DataFrame(rows), FACTORS, "score", True, curves)


def jpeg(color):
    buffer = BytesIO()
    Image.new("RGB", (30, 10), color).save(buffer, format="JPEG")
    return buffer.getvalue()


def small_gallery():
    reasons = (Reason("small objects: median side 7 % of the image (smallest fifth)", True), Reason("dark: <i>", False))
    best = GalleryImage(f"img {EVIL}", 0.9, {"seg": 0.8, "det": 1.0}, (), jpeg("green"))
    worst = GalleryImage("img2", 0.1, {"seg": 0.2, "det": 0.0}, reasons, jpeg("red"))
    scores = pd.DataFrame({"image_id": ["img", "img2"], "score": [0.9, 0.1], "seg": [0.8, 0.2], "size": [0.5, 0.07]})
    columns = {
        "measure": ["median object size"],
        "key": ["size"],
        "n": [40],
        "rho": [0.61],
        "p": [0.00002],
        "shown": [True],
    }
    return Gallery((best,), (worst,), scores, pd.DataFrame({**columns, "rho_seg": [0.5]}), 0.35)


@pytest.fixture(scope="module")
def findings():
    return analyze(run_table(), bootstrap=200)


@pytest.fixture(scope="module")
def content(findings):
    confirmation = {"configuration": ["rank 1"], "n": [5], "selected": [0.51], "fresh": [0.5], "held_out": [0.48]}
    return ReportContent(
        title=f"A study of {EVIL} & more",
        findings=findings,
        base_config=BASE,
        factors=[Factor("model.activation", (Level("relu", {}), Level(EVIL, {})))],
        design=["15 runs, one at a time"],
        seeds=[0, 1, 2],
        recommended_config=BASE,
        best_config=BASE,
        gallery=small_gallery(),
        confirmation=pd.DataFrame({**confirmation, "low": [0.46], "high": [0.5], "training.lr": ["0.01"]}),
        failures=[("run3-1", f"RuntimeError: {EVIL}")],
        notes=["64-pixel images only"],
    )


class Page(HTMLParser):
    """Reads a page: tags in balance, attributes, tables with what cells are sorted by, code, headings, scripts."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.attributes, self.tables, self.text = [], [], [], {}
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.attributes += [(tag, name, value) for name, value in attributes]
        if tag not in VOID_TAGS:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append(["", dict(attributes).get("data-sort")])
        self.text.setdefault(tag, []).append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        for tag in self.open:
            self.text[tag][-1] += data
        if "td" in self.open or "th" in self.open:
            self.tables[-1][-1][-1][0] += data


@pytest.fixture(scope="module")
def files(content, tmp_path_factory):
    return write_report(tmp_path_factory.mktemp("report") / "new", content)


@pytest.fixture(scope="module")
def page(files):
    return Page(files.html.read_text(encoding="utf-8"))


def test_the_files_are_where_they_should_be(files):
    folder = files.html.parent
    assert (files.html.name, files.markdown.name) == ("report.html", "report.md")
    assert {path.parent for path in files.tables} == {folder / "tables"}
    assert {path.parent for path in files.plots} == {folder / "plots"}
    names = {path.stem for path in files.plots}
    assert names == {"effects", "curves", "parallel", "pareto", "best_1", "worst_1"}  # 5 configs: no importance
    assert all(path.is_file() for path in (*files.tables, *files.plots))
    assert {path.stem for path in files.tables} >= {
        "configurations", "best_runs", "levels", "effects", "learning", "cost", "pareto", "runs", "runs_by_lr",
        "runs_by_activation", "runs_by_augmentation_level", "confirmation", "failures", "pruned", "image_reasons",
    }  # fmt: skip


def test_nothing_comes_from_elsewhere_and_all_pictures_are_there(files, page):
    links = [value for _, name, value in page.attributes if name in ("src", "href", "srcset", "action", "data")]
    assert links
    assert all(link.startswith(("data:image/", "#")) for link in links)
    assert not re.search(r"https?:|@import|url\(", files.html.read_text(encoding="utf-8"))
    pictures = [link for link in links if link.startswith("data:")]
    assert len(pictures) == len(files.plots)
    shown = {hashlib.sha256(base64.b64decode(link.partition(",")[2])).digest() for link in pictures}
    assert shown == {hashlib.sha256(path.read_bytes()).digest() for path in files.plots}
    for link in pictures:
        with Image.open(BytesIO(base64.b64decode(link.partition(",")[2]))) as picture:
            assert link.startswith(f"data:image/{picture.format.lower()};base64,")
            picture.verify()


def test_links_within_the_page_lead_somewhere(page):
    anchors = [value for _, name, value in page.attributes if name == "id"]
    assert len(anchors) == len(set(anchors))
    assert {value[1:] for tag, name, value in page.attributes if (tag, name) == ("a", "href")} == set(anchors)


def test_no_label_is_a_script_and_only_the_reports_own_may_run(files, page):
    (script,) = page.text["script"]
    assert "alert" not in script
    assert script == resources.files("mtvision.report").joinpath("templates/report.js").read_text(encoding="utf-8")
    policy = next(v for t, n, v in page.attributes if (t, n) == ("meta", "content") and "default-src" in v)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert page.text["title"] == [f"A study of {EVIL} & more"]
    assert not page.text.get("i")
    everything = " ".join(page.text["body"])
    assert everything.count(EVIL) > 10
    assert "{{ 7 * 7 }}" in everything
    markdown = files.markdown.read_text(encoding="utf-8")
    assert "<script" not in markdown
    assert "<i>" not in markdown


def cells_of(line):
    """Return the cells of a row of a Markdown table as they are shown."""
    parts = re.split(r"(?<!\\)\|", line.strip())[1:-1]
    return [re.sub(r"\\([\\`*\[\]|~$#_])", r"\1", entities.unescape(part)).strip() for part in parts]


def markdown_tables(text):
    blocks = re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)
    return [[cells_of(line) for number, line in enumerate(block.splitlines()) if number != 1] for block in blocks]


def test_markdown_and_html_say_the_same(files, page):
    text = files.markdown.read_text(encoding="utf-8")
    tables = [[[cell for cell, _ in row] for row in table] for table in page.tables]
    assert markdown_tables(text) == tables
    assert len(tables) == len(files.tables)
    headings = [line[3:] for line in text.splitlines() if line.startswith("## ")]
    assert headings == page.text["h2"]
    links = re.findall(r"!\[[^\]]*\]\(([^)]*)\)", text)
    assert {files.markdown.parent / link for link in links} == set(files.plots)


def number(text):
    return float(text.replace(",", "").replace("\N{MINUS SIGN}", "-"))


def test_the_shown_numbers_are_those_of_the_csv_files(files, page):
    checked = 0
    for path, table in zip(files.tables, page.tables, strict=True):
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))
        assert len(rows) == len(table), path
        for shown, stored in zip(table[1:], rows[1:], strict=True):
            values = [float(cell) for cell in stored if re.fullmatch(r"[-+.\de]+", cell)]
            for text, key in shown:
                if key is None:
                    assert text in (*stored, "yes", "no", "\N{EN DASH}"), path
                elif key == "":
                    assert (text, "" in stored) == ("\N{EN DASH}", True), path
                else:
                    assert any(value == pytest.approx(float(key), rel=1e-9) for value in values), path
                    decimals = len(text.partition(".")[2])
                    if not text.startswith("<"):
                        assert abs(number(text) - float(key)) <= 0.5000001 * 10**-decimals, path
                        checked += 1
    assert checked > 300


def rows_of(files, page, name):
    place = [path.stem for path in files.tables].index(name)
    head, *rows = [[cell for cell, _ in row] for row in page.tables[place]]
    return [dict(zip(head, row, strict=True)) for row in rows]


def test_a_factors_runs_are_those_that_differ_in_it_only(files, page):
    rows = rows_of(files, page, "runs_by_lr")
    assert {row["run"][:4] for row in rows} == {"run0", "run3"}  # run3-1 failed: its partner has none left
    assert [row["run"] for row in rows if row["lr"] == "0.01"] == ["run3-2", "run3-0"]  # the best first
    wanted = {
        "mIoU",
        "mAP50",
        "pixel accuracy",
        "validation loss",
        "best epoch",
        "loss, first 5 epochs",
        "train-val gap",
    }
    assert wanted <= set(rows[0])
    run = next(row for row in rows if row["run"] == "run0-0")
    assert (run["best epoch"], run["loss, first 5 epochs"], run["train-val gap"]) == ("8", "2.60", "0.700")


def test_the_table_of_runs_has_everything(files, page):
    rows = rows_of(files, page, "runs")
    assert len(rows) == 15
    assert {row["state"] for row in rows} == {"finished", "failed", "pruned"}
    assert {"seed", "activation", "lr", "augmentation_level", "my number", "seconds", "parameters"} <= set(rows[0])
    assert rows[0]["activation"] == EVIL  # the best first
    assert rows[0]["parameters"] == "11,234,568"
    assert rows_of(files, page, "failures") == [{"run": "run3-1", "error": f"RuntimeError: {EVIL}"}]
    assert [row["run"] for row in rows_of(files, page, "pruned")] == ["run4-2"]


def test_configs_can_be_pasted(files, page):
    texts = [text for text in page.text["code"] if text.startswith("RECOMMENDED_CONFIG = ")]
    texts += re.findall(
        r"```python\n(RECOMMENDED_CONFIG = .*?)\n```", files.markdown.read_text(encoding="utf-8"), re.DOTALL
    )
    assert len(texts) == 2
    for text in texts:
        config = ast.literal_eval(text.partition(" = ")[2])
        assert config == BASE
    assert mtv.build_model(config).describe().rows


def test_the_gallery_shows_scores_and_reasons(page):
    cards = " ".join(page.text["article"])
    assert "img2: 0.10 (seg 0.20, det 0.00)" in cards
    assert "small objects: median side 7 % of the image (smallest fifth) *" in cards
    assert "dark: <i>" in cards


def test_whether_the_recommended_configuration_was_run_is_said(content, findings, page, tmp_path):
    assert findings.recommended == {
        "model.activation": EVIL,
        "training.lr": "0.002",
        "data.augmentation_level": "{{ 7 * 7 }}",
    }
    expected = findings.expected
    sentence = next(line for line in page.text["li"] if line.startswith("The recommended configuration was run"))
    assert sentence.startswith(
        f"The recommended configuration was run (3 seeds): score {expected['mean']:.3f} (95 % int"
    )
    assert sentence.endswith("a run took 104 s")
    other = replace(content, findings=replace(findings, recommended_runs=(), expected=None), gallery=None)
    text = write_report(tmp_path, other).html.read_text(encoding="utf-8")
    assert "was not run: run it with study.confirm()" in text
    assert "was run (" not in text
    assert "predictions" not in text  # no gallery, no section of it
    again = content.confirmation.assign(configuration="recommended")
    text = write_report(tmp_path, replace(other, confirmation=again)).html.read_text(encoding="utf-8")
    assert "was not among the study&#39;s runs, but was run to confirm it" in text
    assert "0.480 (95 % interval 0.460 to 0.500) on the split kept for this" in text


def aliased_table():
    """Activation and loss always change together."""
    table = run_table()
    runs = table.runs.drop(columns="data.augmentation_level")
    runs["training.seg_loss"] = [{"relu": "ce"}.get(label, "focal " + label[:1]) for label in runs["model.activation"]]
    factors = {name: FACTORS[name] for name in ("model.activation", "training.lr")}
    return RunTable(runs, {**factors, "training.seg_loss": ("ce", "focal <", "focal a")}, "score", True, table.curves)


def test_what_is_aliased_comes_first(files, page, tmp_path):
    assert page.text["h2"][0] == "In short"
    assert "What these runs can tell apart" in page.text["h2"]
    found = analyze(aliased_table(), bootstrap=200)
    aliased = write_report(tmp_path, ReportContent("aliased", found))
    other = Page(aliased.html.read_text(encoding="utf-8"))
    assert other.text["h2"][0] == "What these runs cannot tell apart"
    lines = [line.strip() for line in other.text["li"]]
    assert all(sentence in lines for sentence in found.aliasing.sentences())
    assert ("ul", "class", "important") in other.attributes
    effects = rows_of(aliased, other, "effects")
    assert [row["factor"] for row in effects].count("activation + seg_loss") == 2


def test_interactions_are_drawn_and_counted(tmp_path):
    noise, rows = random.Random(0), []
    for a, b, c, seed in itertools.product("xy", "uvw", "pq", range(3)):
        result = 0.3 + 0.2 * (a == "y" and b == "w") + noise.gauss(0, 0.003)
        rows.append({"a": a, "b": b, "c": c, "seed": seed, "miou": result})
    found = analyze(read_runs(pd.DataFrame(rows), ["a", "b", "c"], objective="miou", seed="seed"), bootstrap=200)
    files = write_report(tmp_path, ReportContent("factorial", found))
    page = Page(files.html.read_text(encoding="utf-8"))
    rows = rows_of(files, page, "interactions")
    assert len(rows) == len(found.interactions) == 5  # 2 for a and b, 1 for a and c, 2 for b and c
    shown = {(row["level a"], row["level b"]) for row in rows if row["shown"] == "yes"}
    assert shown == {("y", "w")}
    assert any(line.startswith("Interactions shown: 1 of 5.") for line in page.text["p"])
    assert {"interactions", "importance", "effects"} <= {path.stem for path in files.plots}


def test_missing_columns_leave_their_tables_out(tmp_path):
    runs = pd.DataFrame({"a/b": list("xyxyxy"), "a b": list("uuvvuv"), "miou": [0.1, 0.2, 0.15, 0.3, 0.11, 0.31]})
    found = analyze(read_runs(runs, ["a/b", "a b"], objective="miou"), bootstrap=200)
    files = write_report(tmp_path, ReportContent("elsewhere", found))
    page = Page(files.html.read_text(encoding="utf-8"))
    stems = [path.stem for path in files.tables]
    assert len({stem.lower() for stem in stems}) == len(stems)
    assert {"runs_by_a_b", "runs_by_a_b_2", "levels", "effects"} <= set(stems)  # names that no file can have
    assert not {"learning", "cost", "pareto", "failures", "confirmation"} & set(stems)
    assert not {"Learning", "Cost", "Trade-offs", "Run again", "Failed and pruned runs"} & set(page.text["h2"])
    assert set(rows_of(files, page, "runs_by_a_b_2")[0]) == {"run", "seed", "a b", "mIoU"}
    assert "study.confirm" not in files.html.read_text(encoding="utf-8")  # there is nothing to run
    assert "RECOMMENDED_CONFIG" not in files.markdown.read_text(encoding="utf-8")


SCRIPT = """
const fs = require("fs"), vm = require("vm");
const cell = (text, sort) => ({ textContent: text, dataset: sort === undefined ? {} : { sort } });
const rows = JSON.parse(process.argv[2]).map((cells) => ({ cells: cells.map((c) => cell(...c)), hidden: false }));
const heads = rows[0].cells.map(() => { const a = {}; return { getAttribute: (k) => a[k] ?? null,
  setAttribute: (k, v) => { a[k] = v; }, removeAttribute: (k) => { delete a[k]; } }; });
const body = { rows, append(...sorted) { this.rows = sorted; } };
const table = { tHead: { rows: [{ cells: heads }] }, tBodies: [body],
  querySelectorAll: () => heads.map((_, i) => ({ addEventListener: (_, f) => { clicks[i] = f; } })) };
const clicks = {}, count = { textContent: "" };
const input = { value: "", addEventListener: (_, f) => { input.fire = f; } };
const box = { querySelector: (name) => ({ table, input, ".count": count })[name] };
globalThis.document = { querySelectorAll: (name) => name === ".table" ? [box] : [] };
vm.runInThisContext(fs.readFileSync(process.argv[3], "utf8"));
const shown = () => body.rows.filter((row) => !row.hidden).map((row) => row.cells[0].textContent);
const result = [];
for (const column of [1, 1, 0]) { clicks[column](); result.push([shown(), heads[column].getAttribute("aria-sort")]); }
input.value = " GELU  b"; input.fire(); result.push([shown(), count.textContent]);
input.value = ""; input.fire(); result.push([shown(), count.textContent]);
console.log(JSON.stringify(result));
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no JavaScript engine (node)")
def test_tables_are_sorted_by_numbers_and_searched_by_words(tmp_path):
    rows = [
        [["b gelu"], ["9.5", "9.5"]],
        [["a gelu"], ["1,000", "1000"]],
        [["c relu"], ["\N{EN DASH}", ""]],
        [["d"], ["\N{MINUS SIGN}2", "-2"]],
    ]
    (tmp_path / "run.js").write_text(SCRIPT)
    script = resources.files("mtvision.report").joinpath("templates/report.js")
    command = ["node", str(tmp_path / "run.js"), json.dumps(rows), str(script)]
    result = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert result == [
        [["d", "b gelu", "a gelu", "c relu"], "ascending"],
        [["a gelu", "b gelu", "d", "c relu"], "descending"],  # what is missing stays last
        [["a gelu", "b gelu", "c relu", "d"], "ascending"],
        [["b gelu"], "1 of 4"],
        [["a gelu", "b gelu", "c relu", "d"], ""],
    ]
