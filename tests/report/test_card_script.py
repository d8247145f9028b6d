"""The script that searches and sorts cards, run by itself."""

import json
import shutil
import subprocess
from importlib import resources

import pytest

SCRIPT = """
const fs = require("fs"), vm = require("vm");
const given = JSON.parse(process.argv[2]);
const cards = given.map(([text, values]) => ({ textContent: text, dataset: { values }, hidden: false }));
const list = { children: cards, shown: cards, append(...sorted) { this.shown = sorted; } };
const field = () => ({ value: "", addEventListener(_, f) { this.fire = f; } });
const input = field(), select = field(), count = { textContent: "" };
const box = { querySelector: (name) => ({ ".cards": list, input, select, ".count": count })[name] };
globalThis.document = { querySelectorAll: (name) => name === ".gallery" ? [box] : [] };
vm.runInThisContext(fs.readFileSync(process.argv[3], "utf8"));
const result = [];
const shown = () => list.shown.filter((card) => !card.hidden).map((card) => card.textContent);
for (const value of ["1 0", "-1 0", "-1 1", ""]) { select.value = value; select.fire(); result.push(shown()); }
input.value = " CAT"; input.fire(); result.push([shown(), count.textContent]);
input.value = ""; input.fire(); result.push([shown(), count.textContent]);
console.log(JSON.stringify(result));
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no JavaScript engine (node)")
def test_cards_are_sorted_by_numbers_and_searched_by_words(tmp_path):
    cards = [["cat a", "0.5 2"], ["dog", "nan 10"], ["cat b", "0.25 1"]]
    (tmp_path / "run.js").write_text(SCRIPT)
    script = resources.files("mtvision.report").joinpath("templates/report.js")
    command = ["node", str(tmp_path / "run.js"), json.dumps(cards), str(script)]
    result = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert result == [
        ["cat b", "cat a", "dog"],  # what is missing is last, in both directions
        ["cat a", "cat b", "dog"],
        ["dog", "cat a", "cat b"],
        ["cat a", "dog", "cat b"],
        [["cat a", "cat b"], "2 of 3"],
        [["cat a", "dog", "cat b"], ""],
    ]
