"""The site: its reference has every public name, its menu every page, and links lead to pages that there are."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml

import mtvision as mtv

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
REFERENCE = "\n".join(path.read_text() for path in sorted((DOCS / "reference").glob("*.md")))
IDENTIFIERS = set(re.findall(r"^::: (\S+)$", REFERENCE, flags=re.MULTILINE))


def load(path, **modules):
    """Load a script of the site, with stand-ins for packages that only the site needs."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        for name, content in modules.items():
            stand_in = ModuleType(name.replace("__", "."))
            vars(stand_in).update(content)
            patch.setitem(sys.modules, stand_in.__name__, stand_in)
        patch.setitem(sys.modules, path.stem, module)  # which dataclasses look up
        spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pages():
    structure = {
        "mkdocs": {},
        "mkdocs__config": {},
        "mkdocs__config__defaults": {"MkDocsConfig": object},
        "mkdocs__structure": {},
        "mkdocs__structure__files": {"File": object, "Files": object},
        "mkdocs__structure__pages": {"Page": object},
    }
    return load(DOCS / "site" / "pages.py", **structure)


@pytest.mark.parametrize("package", [mtv, mtv.data], ids=["mtvision", "mtvision.data"])
def test_every_public_name_is_on_a_page_of_the_reference(package):
    if package.__name__ in IDENTIFIERS:  # a module shows all that is in its __all__
        return
    assert [name for name in package.__all__ if f"{package.__name__}.{name}" not in IDENTIFIERS] == []


def test_no_name_is_on_two_pages():
    identifiers = re.findall(r"^::: (\S+)$", REFERENCE, flags=re.MULTILINE)
    assert len(identifiers) == len(set(identifiers))


def leaves(menu):
    for entry in menu:
        content = next(iter(entry.values())) if isinstance(entry, dict) else entry
        yield from leaves(content) if isinstance(content, list) else [content]


def test_the_menu_has_every_page_once(pages):
    menu = list(leaves(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    outside = {page for page in pages.pages_from_outside().values() if not page.startswith("examples/")}
    assert sorted(menu) == sorted({path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")} | outside)


def test_links_to_files_outside_lead_to_their_pages(pages):
    turned = pages.with_site_links
    assert turned("[a](../CONTRIBUTING.md)", "training.md") == "[a](contributing.md)"
    assert turned("[a](../../examples/predict.py#x)", "how_to/own_head.md") == "[a](../examples/predict.md#x)"
    assert turned("[a](docs/training.md#resuming)", "changelog.md") == "[a](training.md#resuming)"
    assert turned("[a](data.md) [b](https://a.b/../CONTRIBUTING.md)", "x.md").startswith(
        "[a](data.md) [b](https://a.b/.."
    )


def test_the_page_of_a_script_has_its_first_sentence_and_all_of_it(pages):
    text = '"""Do it."""\n\nprint(1)\n'
    page = pages.script_page("examples/do.py", text)
    assert page.startswith("# do.py\n\nDo it.\n\n")
    assert page.endswith(f"```python\n{text}```\n")


def test_examples_of_docstrings_are_code_and_papers_links():
    module = load(DOCS / "site" / "docstrings.py", griffe={"Extension": object, "Object": object})
    text = "Say it (Somebody 2020, arXiv 2001.00001).\n\n    Example:\n        >>> 1\n        1\n"
    readable = module.readable(text)
    assert "[arXiv 2001.00001](https://arxiv.org/abs/2001.00001)" in readable
    assert "\n    Examples:\n        >>> 1" in readable


def test_the_diagrams_are_those_of_the_script():
    module = load(DOCS / "write_diagrams.py")
    for name, text in module.diagrams().items():
        assert (DOCS / "images" / name).read_text() == text, f"{name}: run `make docs-tables`"
