"""How the reference reads docstrings: examples as code, papers as links."""

import re
from typing import Any, Final

from griffe import Extension, Object

EXAMPLE: Final = re.compile(r"^( *)Example:$", flags=re.MULTILINE)
PAPER: Final = re.compile(r"arXiv (\d{4}\.\d{4,5})")


class Docstrings(Extension):
    """Names the section of examples as the parser expects it, and links what is on arXiv."""

    def on_object(self, *, obj: Object, **kwargs: Any) -> None:  # noqa: ARG002
        """Change the docstring of a module, class, function or attribute before it is parsed."""
        if obj.docstring is not None:
            obj.docstring.value = readable(obj.docstring.value)


def readable(text: str) -> str:
    """Return a docstring's text with the section ``Examples`` and links to papers."""
    return PAPER.sub(r"[arXiv \1](https://arxiv.org/abs/\1)", EXAMPLE.sub(r"\1Examples:", text))
