"""A report as one HTML file that needs nothing else."""

import base64
import hashlib
from importlib import resources
from pathlib import Path

import jinja2
from markupsafe import Markup

from mtvision.report.blocks import Section

_MIME = {".png": "image/png", ".jpg": "image/jpeg"}


def html(title: str, sections: list[Section]) -> str:
    """Return the report as HTML: pictures as data URIs, style and script inline, no network.

    Every text is escaped. Browsers also run no script but the report's own, whose digest the page names.

    Args:
        title: of the report.
        sections: of the report.
    """
    script, style = (_part(name) for name in ("report.js", "report.css"))
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_part),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["data_uri"] = _data_uri
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("report.html.j2").render(
        title=title, sections=sections, script=Markup(script), style=Markup(style), digest=digest
    )


def _part(name: str) -> str:
    return resources.files("mtvision.report").joinpath("templates", name).read_text(encoding="utf-8")


def _data_uri(path: Path) -> str:
    return f"data:{_MIME[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"
