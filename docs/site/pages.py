"""Hooks of the documentation site: pages made of files outside ``docs/``, and the links that lead to them.

The pages in ``docs/`` are read in the repository too, where ``../CONTRIBUTING.md`` or ``../examples/predict.py`` is
a link that works. On the site these files are pages of their own, and such links lead to those.
"""

import ast
import posixpath
import re
from pathlib import Path
from typing import Final

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT: Final = Path(__file__).parents[2]
WITHOUT_TABLE_OF_CONTENTS: Final = ("coming_from/", "report.md")
"""Pages that need the width: code of two libraries side by side, wide tables."""

LINK: Final = re.compile(r"(\]\()(?!https?://|mailto:|#)([^)#\s]+)")


def pages_from_outside() -> dict[str, str]:
    """Return the page on the site for each file outside ``docs/`` that has one; both as paths with slashes."""
    examples = {f"examples/{path.name}": f"examples/{path.stem}.md" for path in (ROOT / "examples").glob("*.py")}
    return {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md", "README.md": "index.md", **examples}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fill the menu's empty list of examples: it has what is in ``examples/``."""
    menus = [entry for section in config.nav or [] for entries in section.values() for entry in entries]
    examples = next(entry for entry in menus if isinstance(entry, dict) and entry.get("Examples") == [])
    pages = sorted(page for page in pages_from_outside().values() if page.startswith("examples/"))
    examples["Examples"] = [{posixpath.basename(page).replace(".md", ".py"): page} for page in pages]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages made of files outside ``docs/``."""
    for source, page in pages_from_outside().items():
        if files.get_file_from_path(page) is None:
            text = (ROOT / source).read_text(encoding="utf-8")
            content = script_page(source, text) if source.endswith(".py") else text
            files.append(File.generated(config, page, content=content))
    return files


def script_page(source: str, text: str) -> str:
    """Return the page of a script: its first sentence, how it is run, and the whole of it."""
    summary = ast.get_docstring(ast.parse(text)) or ""
    name = posixpath.basename(source)
    return f"# {name}\n\n{summary}\n\n```bash\npython {source} --help\n```\n\n```python\n{text}```\n"


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Let the links of a page lead to pages of the site."""
    if page.file.src_uri.startswith(WITHOUT_TABLE_OF_CONTENTS):
        page.meta["hide"] = ["toc"]
    return with_site_links(markdown, page.file.src_uri)


def with_site_links(markdown: str, page: str) -> str:
    """Return the text of a page with links to files outside ``docs/`` turned to their pages.

    Args:
        markdown: The text.
        page: The page's path in ``docs/``; one of those from outside has the links of the file that it is made of.
    """
    outside = pages_from_outside()
    source = next((path for path, of in outside.items() if of == page and page != "index.md"), f"docs/{page}")

    def turned(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link[2]))
        if target in outside:
            target = f"docs/{outside[target]}"
        elif source.startswith("docs/"):
            return link[0]
        return link[1] + posixpath.relpath(target, posixpath.dirname(f"docs/{page}"))

    return LINK.sub(turned, markdown)
