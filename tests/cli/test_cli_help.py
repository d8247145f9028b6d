"""The help and the page say what is true: their commands are taken, their options exist."""

import re
from pathlib import Path

import pytest
from command_line import commands, parsed, run

import mtvision as mtv

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "cli.md"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMANDS = commands()


def examples(text):
    return [line.strip() for line in text.splitlines() if line.strip().startswith("mtvision ")]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_each_verb_has_an_example_that_it_takes(words):
    helped = run(*words, "--help", COLUMNS="200")
    assert helped.exit_code == 0
    shown = helped.output.partition("Example:\n")[2].partition("\n\n")[0]
    assert examples(shown)
    for line in examples(shown):
        assert parsed(line)[0] == words, line


def test_the_issues_verbs_are_there():
    verbs = "train evaluate predict study compare check-data stats export list describe init-config doctor analyze"
    assert {words[0] for words in COMMANDS} == set(verbs.split())
    assert {words[1] for words in COMMANDS if words[0] == "study"} == {"plan", "run", "work", "report", "confirm"}


def test_the_help_has_examples_and_the_exit_codes():
    helped = run("--help", COLUMNS="120")
    assert helped.exit_code == 0
    assert len([parsed(line) for line in examples(helped.output.partition("Options:")[0])]) == 3
    assert re.findall(r"^ +(0|1|2|130)  ", helped.output, flags=re.MULTILINE) == ["0", "1", "2", "130"]


def test_without_a_verb_the_help_is_shown():
    assert "init-config" in run().output


def test_the_version_is_the_packages():
    told = run("--version")
    assert (told.exit_code, told.output) == (0, f"mtvision {mtv.__version__}\n")


def test_every_command_of_the_page_is_taken():
    blocks = re.findall(r"```bash\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    lines = [line for block in blocks for line in examples(block) if not line.startswith("mtvision --")]
    assert {parsed(line)[0] for line in lines} == set(COMMANDS)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_of_every_page_is_taken(page):
    """Words and options; of a training without a file its settings too."""
    for block in re.findall(r"```bash\n(.*?)```", page.read_text(), flags=re.DOTALL):
        for line in re.sub(r"\\\n\s*", "", block).splitlines():
            if line.startswith("mtvision ") and not line.startswith("mtvision --"):
                words, given = parsed(line)
                assert words in COMMANDS
                if words == ("train",) and all("=" in word for word in given["config"] or ()):
                    settings = given["config"] or []
                    assert (mtv.Config().override(settings) != mtv.Config()) == bool(settings)


def test_every_option_of_the_page_exists():
    options = {name for command in COMMANDS.values() for parameter in command.params for name in parameter.opts}
    options |= {name for command in COMMANDS.values() for p in command.params for name in p.secondary_opts}
    named = set(re.findall(r"`(--[a-z][a-z-]+)", PAGE.read_text()))
    assert named - options <= {"--import", "--version", "--help", "--install-completion", "--show-completion"}
    assert len(named & options) > 10


def test_every_option_that_a_person_can_give_is_on_the_page():
    text = PAGE.read_text()
    everywhere = {"--help"}
    missing = {
        f"{' '.join(words)} {parameter.opts[0]}"
        for words, command in COMMANDS.items()
        for parameter in command.params
        if parameter.opts[0].startswith("--") and f"`{parameter.opts[0]}" not in text
    }
    assert {text for text in missing if text.split()[-1] not in everywhere} == set()
